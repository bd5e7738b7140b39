"""``enginewatch load calibrate``: what this host's load generator can drive."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from rich.table import Table

from enginewatch_db.errors import ExitCode
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.finite import FiniteRange
from enginewatch_harness.commands.load_rows import number
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result, result_json, say
from enginewatch_harness.load import calibrate as rules
from enginewatch_harness.load.calibrate import Errors, Step

COLUMNS = (
    "processes",
    "streams each",
    "offered tok/s",
    "achieved",
    "client CPU %",
    "server CPU %",
    "loop late p99 ms",
    "server late p99 ms",
    "TTFT error p50/p99 ms",
    "ITL error p50/p99 ms",
)


@click.command()
@click.option("--processes", type=click.IntRange(1), multiple=True, help="Client processes at once; repeatable [1].")
@click.option("--duration-s", type=FiniteRange(0.5), default=2.0, show_default=True, help="Of each step.")
@click.option("--budget-s", type=FiniteRange(0), default=45.0, show_default=True, help="No step begins later.")
@click.option("--no-store", is_flag=True, help="Keep nothing.")
@store_option
@json_option
def calibrate(
    *,
    processes: tuple[int, ...],
    duration_s: float,
    budget_s: float,
    no_store: bool,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Find how many streams and tokens per second this host's load generator can drive.

    A reference server on a core of its own streams tokens at known times (TTFT 50 ms, a token every 10 ms); the
    client on another core takes more and more streams until it is late, or a core is full. The result is kept in the
    store's folder, and later load tests say whether they stayed within it.

    \b
    Examples:
      enginewatch load calibrate
      enginewatch load calibrate --processes 1 --processes 4
    """
    from enginewatch_harness.load import calibrate_run as runner
    from enginewatch_harness.provenance import host_facts

    say(f"each step takes about {duration_s + 3:.0f} s; keep the machine quiet")
    found = runner.run_calibration(
        processes or (1,), duration_s=duration_s, budget_s=budget_s, on_step=lambda step: say(line_of(step))
    )
    content = runner.as_json(found, host=host_facts(), at=datetime.now(UTC).isoformat())
    if as_json:
        result_json(content)
    else:
        out.print(table_of([step for _, steps in found for step in steps]))
        for limit, _ in found:
            result(rules.sentence(limit))
    if not no_store:
        say(f"stored in {runner.store(workspace.root, content)}")
    if all(limit.streams == 0 for limit, _ in found):
        click.get_current_context().exit(int(ExitCode.UNFIT))


def line_of(step: Step) -> str:
    """Return a step in one line."""
    fault = rules.fault(step)
    state = "driven" if fault is None else f"{fault[0]}: {fault[1]}"
    return f"{step.processes} x {step.streams} streams: {number(step.tokens_s)} tok/s each ({state})"


def table_of(steps: list[Step]) -> Table:
    """Return one row a step."""
    shown = Table(show_edge=False, pad_edge=False)
    for name in COLUMNS:
        shown.add_column(name, justify="right")
    shown.add_column("driven")
    for step in sorted(steps, key=lambda step: (step.processes, step.streams)):
        fault = rules.fault(step)
        shown.add_row(
            str(step.processes),
            str(step.streams),
            number(step.offered_tokens_s, 6),
            number(step.tokens_s, 6),
            number(step.client_cpu_pct, 3),
            number(step.server_cpu_pct, 3),
            number(step.loop_lateness_p99_ms, 3),
            number(step.server_late_p99_ms, 3),
            _pair(step.ttft_error),
            _pair(step.itl_error),
            "yes" if fault is None else f"no: {fault[0]}",
        )
    return shown


def _pair(errors: Errors | None) -> str:
    return "–" if errors is None else f"{errors.p50_ms:+.2f}/{errors.p99_ms:+.2f}"
