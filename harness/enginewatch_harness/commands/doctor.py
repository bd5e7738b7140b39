"""``enginewatch doctor``: what is present, what is missing, and the command that adds it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from enginewatch_db.errors import ExitCode
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result_json, say
from enginewatch_harness.inventory import Item, State, plan_item, take

MARKS = {State.OK: "[green]ok[/]", State.MISSING: "[yellow]missing[/]", State.WARNING: "[yellow]warning[/]"}


DEFAULT_PLAN = Path("enginewatch.toml")


@click.command()
@click.option(
    "--plan",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Say which cases of this plan would run here (default: enginewatch.toml where there is one).",
)
@store_option
@json_option
def doctor(workspace: Workspace, *, plan: Path | None, as_json: bool) -> None:
    """Say what is present, what is missing, and the command that adds it.

    GPUs and MIG slices are listed with the UUIDs that a plan may name. Exit code 4 when something is missing that even
    the CPU default needs.

    \b
    Examples:
      enginewatch doctor
      enginewatch doctor --plan nightly.toml
    """
    if plan is None and DEFAULT_PLAN.is_file():
        plan = DEFAULT_PLAN
    items = (*take(workspace), *((plan_item(plan),) if plan is not None else ()))
    if as_json:
        result_json([asdict(item) for item in items])
    else:
        out.print(_table(items))
    broken = [item.name for item in items if item.needed and item.state is State.MISSING]
    if broken:
        say(f"the CPU default cannot run without: {', '.join(broken)}")
        click.get_current_context().exit(ExitCode.UNFIT)


def _table(items: tuple[Item, ...]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for name in ("item", "state", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for item in items:
        table.add_row(escape(item.name), MARKS[item.state], escape(item.found), escape(item.remedy or ""))
    return table
