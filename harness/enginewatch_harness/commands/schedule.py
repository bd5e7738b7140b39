"""``enginewatch schedule``: run a plan at its times."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import ValidationError

from enginewatch_db.errors import PlanError
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import store_option
from enginewatch_harness.console import result, say
from enginewatch_harness.plan_file import ScheduleTable, load_plan


@click.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path), default=Path("enginewatch.toml"))
@store_option
@click.option("--every-minutes", type=click.IntRange(1), help="Run every N minutes, instead of the plan's rule.")
@click.option("--at", multiple=True, metavar="HH:MM", help="Run daily at this local time; repeatable.")
@click.option("--jitter-s", type=click.IntRange(0), help="Start up to this much later, at random.")
@click.option("--no-catch-up", is_flag=True, help="Skip due times that were missed while nothing ran.")
@click.option("--sessions", type=click.IntRange(1), help="End after this many sessions.")
@click.option("--next", "only_next", is_flag=True, help="Print when the next session is due, and end.")
def schedule(
    plan: Path,
    *,
    workspace: Workspace,
    every_minutes: int | None,
    at: tuple[str, ...],
    jitter_s: int | None,
    no_catch_up: bool,
    sessions: int | None,
    only_next: bool,
) -> None:
    """Run PLAN at the times of its [schedule] table, one session at a time, until stopped.

    What was served last is kept in the store's folder: after a restart a missed session is caught up once.

    \b
    Examples:
      enginewatch schedule enginewatch.toml
      enginewatch schedule enginewatch.toml --every-minutes 30 --jitter-s 60
    """
    from enginewatch_harness.scheduler import Scheduler

    parsed, _ = load_plan(plan)
    rule = _rule(parsed.schedule, every_minutes, at, jitter_s, no_catch_up=no_catch_up)
    if rule is None:
        raise PlanError(
            f"{plan} has no [schedule] table", remedy="add one, or give --every-minutes or --at on the command line"
        )
    scheduler = Scheduler(plan=parsed, rule=rule, plan_path=plan.absolute(), workspace=workspace.create(), say=say)
    if only_next:
        result(scheduler.start().isoformat())
        return
    scheduler.run_forever(sessions)


def _rule(
    planned: ScheduleTable | None,
    every_minutes: int | None,
    at: tuple[str, ...],
    jitter_s: int | None,
    *,
    no_catch_up: bool,
) -> ScheduleTable | None:
    """Return the plan's rule with what the command line says otherwise."""
    given: dict[str, object] = planned.model_dump() if planned else {}
    if every_minutes is not None or at:
        given |= {"every_minutes": every_minutes, "at": list(at)}
    if jitter_s is not None:
        given["jitter_s"] = jitter_s
    if no_catch_up:
        given["catch_up"] = False
    if not given.get("every_minutes") and not given.get("at"):
        return None
    try:
        return ScheduleTable.model_validate(given)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PlanError(f"the schedule cannot be obeyed: {reason}") from error
