"""``enginewatch collect``: telemetry alone, without a run."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import click
from rich.console import Console
from rich.table import Table

from enginewatch_collector.backends.registry import BACKENDS
from enginewatch_collector.config import QUALITY_FILE, TABLE_FILE
from enginewatch_collector.process import CollectorProcess
from enginewatch_collector.result import CollectorResult
from enginewatch_collector.summary import summarise, telemetry_reasons
from enginewatch_db.errors import BackendError, ExitCode, UsageError
from enginewatch_db.metrics import METRICS, MetricValue
from enginewatch_db.model import Json
from enginewatch_db.validity import Reason

JSON_VERSION = 1
_CHECK_S = 0.25


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="How long."
)
@click.option("--rate-hz", type=float, default=10.0, show_default=True, help="Samples per second.")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    default=("auto",),
    show_default=True,
    help="What to sample; may be given several times.",
)
@click.option("--replay", type=click.Path(path_type=Path), help="A recording (CSV) to play back in place of a GPU.")
@click.option("--replay-phase", help="Only this phase of the recording.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files. [default: telemetry-<UTC time>]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def collect(
    seconds: float,
    rate_hz: float,
    backends: tuple[str, ...],
    replay: Path | None,
    replay_phase: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Sample the GPUs and the host, write Parquet and JSON, print a summary.

    Ctrl-C ends the sampling early and keeps what was sampled.

    \b
    Example:
      enginewatch collect --seconds 60 --out telemetry
    """
    out = out or Path(f"telemetry-{datetime.now(tz=UTC):%Y%m%dT%H%M%SZ}")
    if (out / TABLE_FILE).exists():
        raise UsageError(f"{out} holds telemetry already", remedy="choose another folder with --out")
    with CollectorProcess.start(
        out, backends=backends, rate_hz=rate_hz, replay=replay, replay_phase=replay_phase
    ) as collector:
        # tick 0 is made and the last one is still to come, so that counters are read on both sides of this span
        start_ns = time.monotonic_ns()
        interrupted = False
        try:
            click.echo(f"sampling at {rate_hz:g} Hz for {seconds:g} s into {out} (Ctrl-C ends it early)", err=True)
            _wait(seconds, collector)
        except KeyboardInterrupt:
            interrupted = True
        end_ns = time.monotonic_ns()
        result = collector.stop()
    _report(result, out, start_ns, end_ns, as_json=as_json)
    if interrupted:
        raise SystemExit(ExitCode.INTERRUPTED)


def _wait(seconds: float, collector: CollectorProcess) -> None:
    """Wait, but no longer than the collector lives."""
    deadline_s, never = time.monotonic() + seconds, Event()
    while (left_s := deadline_s - time.monotonic()) > 0 and collector.alive():
        never.wait(min(left_s, _CHECK_S))


def _report(result: CollectorResult, out: Path, start_ns: int, end_ns: int, *, as_json: bool) -> None:
    if not result.table.num_rows:
        raise BackendError(f"the collector wrote no rows into {out}", code="no_samples", remedy="give more --seconds")
    metrics = summarise(result.table, start_ns, end_ns)
    # alone there is no run whose processes would be its own: nothing is foreign
    reasons = tuple(
        reason
        for reason in telemetry_reasons(result.table, result.quality, start_ns, end_ns)
        if reason.code != "foreign_process"
    )
    if as_json:
        click.echo(json.dumps(_as_json(result, metrics, reasons, out), indent=2))
    else:
        _print_table(result, metrics, reasons, out)


def _as_json(result: CollectorResult, metrics: tuple[MetricValue, ...], reasons: tuple[Reason, ...], out: Path) -> Json:
    return {
        "version": JSON_VERSION,
        "metrics": [asdict(metric) | {"unit": METRICS[metric.metric].unit} for metric in metrics],
        "reasons": [{"code": reason.code, "effect": reason.effect, "detail": reason.detail} for reason in reasons],
        "quality": result.quality,
        "devices": list(result.devices),
        "files": {"table": str(out / TABLE_FILE), "quality": str(out / QUALITY_FILE)},
    }


def _print_table(
    result: CollectorResult, metrics: tuple[MetricValue, ...], reasons: tuple[Reason, ...], out: Path
) -> None:
    table = Table(title=", ".join(str(facts.get("name") or facts["device"]) for facts in result.devices))
    table.add_column("metric", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("n", justify="right")
    table.add_column("source, or why it is absent")
    for metric in metrics:
        if metric.value is None:
            table.add_row(metric.metric, "absent", "", "", metric.absent_reason)
        else:
            unit = METRICS[metric.metric].unit
            table.add_row(metric.metric, f"{metric.value:,.1f}", unit, str(metric.n or ""), metric.source)
    console = Console()
    console.print(table)
    quality = result.quality
    console.print(
        f"{result.table.num_rows} rows, {quality['ticks_made']} of {quality['ticks_expected']} ticks, "
        f"collector CPU {quality['own_cpu_pct']:.2f} % of a core → {out / TABLE_FILE}",
        highlight=False,
        soft_wrap=True,
    )
    for reason in reasons:
        console.print(
            f"{reason.effect}: {reason.code} ({reason.detail})", highlight=False, markup=False, soft_wrap=True
        )
