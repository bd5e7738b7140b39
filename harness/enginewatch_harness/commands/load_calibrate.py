"""``enginewatch load calibrate``: what this host's load generator can drive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.table import Table

from enginewatch_db.errors import ExitCode
from enginewatch_db.text_columns import fitting
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.finite import FiniteRange
from enginewatch_harness.commands.load_rows import number
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result_json, result_prose, say
from enginewatch_harness.load import calibrate as rules
from enginewatch_harness.load.calibrate import Errors, Step

FIRST_TO_GO = (
    "server\nlate p99 ms",
    "server\nCPU %",
    "loop late\np99 ms",
    "offered\ntok/s",
    "TTFT error\np50/p99 ms",
    "ITL error\np50/p99 ms",
    "client\nCPU %",
)
"""Columns that a narrow window does without: what did not keep up is in the last one, and the file has all."""

SEPARATOR = 3


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
        out.print(table_of([step for _, steps in found for step in steps], width=out.width))
        for limit, _ in found:
            result_prose(rules.sentence(limit))
    if not no_store:
        say(f"stored in {runner.store(workspace.root, content)}")
    if all(limit.streams == 0 for limit, _ in found):
        click.get_current_context().exit(int(ExitCode.UNFIT))


def line_of(step: Step) -> str:
    """Return a step in one line."""
    fault = rules.fault(step)
    state = "driven" if fault is None else f"{fault[0]}: {fault[1]}"
    return f"{step.processes} x {step.streams} streams: {number(step.tokens_s)} tok/s each ({state})"


def table_of(steps: list[Step], *, width: int | None = None) -> Table:
    """Return one row a step.

    Args:
        steps: In any order.
        width: Columns of the window: columns that do not fit are left out, ``FIRST_TO_GO`` first; ``None`` for all.
    """
    ordered = sorted(steps, key=lambda step: (step.processes, step.streams))
    columns = columns_of(ordered)
    texts = {name: [name, *cells] for name, cells in columns.items()}
    chosen = fitting(texts, width, first_to_go=FIRST_TO_GO, separator=SEPARATOR)
    shown = Table(show_edge=False, pad_edge=False)
    for name in chosen:
        shown.add_column(name, justify="left" if name == "driven" else "right", no_wrap=True)
    for idx in range(len(ordered)):
        shown.add_row(*(columns[name][idx] for name in chosen))
    return shown


def columns_of(steps: Sequence[Step]) -> dict[str, list[str]]:
    """Return the cells by column; a name's two lines make it about as narrow as its numbers."""
    faults = [rules.fault(step) for step in steps]
    return {
        "processes": [str(step.processes) for step in steps],
        "streams\neach": [str(step.streams) for step in steps],
        "offered\ntok/s": [number(step.offered_tokens_s, 6) for step in steps],
        "achieved\ntok/s": [number(step.tokens_s, 6) for step in steps],
        "client\nCPU %": [number(step.client_cpu_pct, 3) for step in steps],
        "server\nCPU %": [number(step.server_cpu_pct, 3) for step in steps],
        "loop late\np99 ms": [number(step.loop_lateness_p99_ms, 3) for step in steps],
        "server\nlate p99 ms": [number(step.server_late_p99_ms, 3) for step in steps],
        "TTFT error\np50/p99 ms": [_pair(step.ttft_error) for step in steps],
        "ITL error\np50/p99 ms": [_pair(step.itl_error) for step in steps],
        "driven": ["yes" if fault is None else f"no: {fault[0]}" for fault in faults],
    }


def _pair(errors: Errors | None) -> str:
    return "–" if errors is None else f"{errors.p50_ms:+.2f}/{errors.p99_ms:+.2f}"
