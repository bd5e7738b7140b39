"""``enginewatch engines spread``: how much runs of one engine differ, and how much engines built alike do."""

from __future__ import annotations

from dataclasses import asdict

import click

from enginewatch_ci.stats.variance import Interval, Spread, joined_spread
from enginewatch_db.connect import Reader
from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.db import open_reader
from enginewatch_harness.commands.engine_tables import ABSENT, number, print_table
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result_json, say

ALL = "all, as if alike"
"""The row that takes all cases to have one spread."""


@click.command()
@click.option("--session", "session_ref", metavar="REF", help="Only this session: latest, an id, label:NAME.")
@click.option("--plan", metavar="NAME", help="Only sessions of this plan.")
@click.option("--metric", default="latency_p50_ms", show_default=True, help="Metric of a run; any that is above 0.")
@store_option
@json_option
def spread(session_ref: str | None, plan: str | None, metric: str, workspace: Workspace, *, as_json: bool) -> None:
    """Split the spread of each case into run-to-run and build-to-build, as standard deviations in percent.

    A case needs builds_per_case = 2 or more in its plan, and more runs than builds. A build is an engine file: the same
    file in two sessions, from two builds, or in several cases is one. What changed between sessions that share builds
    is taken out.

    \b
    Example:
      enginewatch engines spread --session latest
    """
    chosen = None
    if session_ref is not None:
        from enginewatch_ci.choose import choose_session

        chosen = choose_session(workspace.root, session_ref).session_id
    with open_reader(workspace) as reader:
        cells = _cells(reader, chosen, plan, metric)
    found = _spreads(cells, metric)
    if not found:
        raise UsageError(
            f"no valid run with an engine and {metric} above 0",
            remedy="see `enginewatch engines list` for what was measured",
        )
    if as_json:
        result_json([{**place, **asdict(item)} for place, item in found])
        return
    _print(found)


Cells = dict[tuple[str, str], dict[str, dict[str, list[float]]]]
"""Case and series → session → engine → its runs' values."""


def _cells(reader: Reader, session: str | None, plan: str | None, metric: str) -> Cells:
    cells: Cells = {}
    for row in reader.rows("engines_spread", metric=metric, session=session, plan=plan):
        sessions = cells.setdefault((row["case_key"], row["series_id"]), {})
        sessions.setdefault(row["session_id"], {}).setdefault(row["engine_sha256"], []).append(row["value"])
    return cells


def _spreads(cells: Cells, metric: str) -> list[tuple[Json, Spread]]:
    """Return the spread of each case over its sessions, and where there are more cases, of all together."""
    found: list[tuple[Json, Spread]] = [
        (
            {"case": case, "series_id": series_id, "sessions": [*sessions], "metric": metric},
            joined_spread([[*sessions.values()]]),
        )
        for (case, series_id), sessions in cells.items()
    ]
    if len(found) > 1:
        together = joined_spread([[*sessions.values()] for sessions in cells.values()])
        every = sorted({session for sessions in cells.values() for session in sessions})
        found.append(({"case": None, "series_id": None, "sessions": every, "metric": metric}, together))
    return found


def _print(found: list[tuple[Json, Spread]]) -> None:
    columns = {
        "case": [place["case"] or ALL for place, _ in found],
        "sessions": [str(len(place["sessions"])) for place, _ in found],
        "builds": [str(item.builds) for _, item in found],
        "runs": [str(item.runs) for _, item in found],
        "run-to-run %": [_cell(item.run_sd_pct, item.run_ci) for _, item in found],
        "build-to-build %": [_cell(item.build_sd_pct, item.build_ci) for _, item in found],
        "p (builds alike)": [number(item.p_value, ".2g") for _, item in found],
    }
    print_table(
        columns, first_to_go=("sessions", "p (builds alike)", "builds", "runs"), right=("sessions", "builds", "runs")
    )
    if any(item.build_sd_pct is None for _, item in found):
        say("build-to-build needs builds_per_case = 2 or more in the plan, and a tool whose builds differ")


def _cell(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return ABSENT if value is None else f"{value:.3g}"
    high = "∞" if interval.high is None else f"{interval.high:.2g}"
    return f"{value:.2g} [{interval.low:.2g}, {high}]"
