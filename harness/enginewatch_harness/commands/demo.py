"""``enginewatch demo``: recorded H200 runs in a store of their own, and the dashboard on it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from enginewatch_db.errors import UsageError
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option
from enginewatch_harness.console import result, result_json, result_prose, say

DEFAULT_FOLDER = ".enginewatch-demo"


@click.command()
@click.option(
    "--store",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the demo's store; never one that holds your own runs.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the dashboard listens on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="Its port.")
@click.option("--no-dashboard", is_flag=True, help="Load and print, without opening the dashboard.")
@click.option("--reset", "anew", is_flag=True, help="Delete the demo's store first, and load it anew.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@json_option
def demo(*, folder: Path, host: str, port: int, no_dashboard: bool, anew: bool, yes: bool, as_json: bool) -> None:
    """Load recorded runs of an NVIDIA H200 and open the dashboard on them. No GPU is needed.

    ResNet-50 in trtexec, 45 runs of an encoder built nine times, and a 7-billion-parameter Llama behind vLLM, all
    with the GPU's telemetry. They were not measured on this machine, and live in a store of their own.

    \b
    Examples:
      enginewatch demo
      enginewatch demo --no-dashboard
      enginewatch db query --store .enginewatch-demo "SELECT case_key, count(*) FROM runs GROUP BY 1"
    """
    from enginewatch_harness.demo.highlights import highlights
    from enginewatch_harness.demo.load import load_demo, reset

    workspace = Workspace(folder.expanduser().absolute())
    if anew:
        _confirm(workspace, yes=yes)
        reset(workspace)
    say(f"loading recorded H200 runs into {workspace.root}")
    report = load_demo(workspace)
    lines = highlights(workspace)
    if as_json:
        result_json({"schema_version": 1, "store": str(workspace.root), **asdict(report), "highlights": lines})
    else:
        _show(lines, report.sentences)
    say(f"{report.loaded} runs loaded, {report.known} were there already, in {report.wall_s:.1f} s")
    if no_dashboard:
        say(f"look at them with `enginewatch dashboard --store {folder}`")
        return
    _open(workspace, host=host, port=port)


def _confirm(workspace: Workspace, *, yes: bool) -> None:
    if yes or not workspace.root.exists():
        return
    if not sys.stdin.isatty():
        raise UsageError(f"--reset deletes {workspace.root}", remedy="add --yes to do so without being asked")
    click.confirm(f"Delete {workspace.root}?", abort=True, err=True)


def _show(lines: list[str], sentences: dict[str, str]) -> None:
    result("What to look at (recorded on one NVIDIA H200):")
    for number, line in enumerate(lines, start=1):
        result_prose(f"{number}. {line}", indent="   ")
    result("Verdicts of the newest sessions:")
    for plan, sentence in sentences.items():
        result_prose(f"- {plan}: {sentence}", indent="  ")


def _open(workspace: Workspace, *, host: str, port: int) -> None:
    from enginewatch_dashboards.launch import launch

    code = launch(workspace.root, port=port, host=host, open_browser=sys.stdout.isatty())
    if code:
        click.get_current_context().exit(code)
