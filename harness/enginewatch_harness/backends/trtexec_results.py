"""What trtexec left behind, read back into engine records and measurements."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from enginewatch_db.errors import MeasurementError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Job, Measurement
from enginewatch_harness.backends.stored_reasons import build_reasons
from enginewatch_harness.parse.trtexec_check import check_agreement
from enginewatch_harness.parse.trtexec_json import Times, latency_samples, parse_times
from enginewatch_harness.parse.trtexec_layers import (
    Layer,
    fingerprint,
    parse_layers,
    realised_precision,
)
from enginewatch_harness.parse.trtexec_lines import decode
from enginewatch_harness.parse.trtexec_log import TrtexecLog
from enginewatch_harness.parse.trtexec_summary import coefficient_of_variation_pct

_BUILD_REASONS = frozenset(("teardown_crash", "tactics_skipped_for_memory"))
"""Reasons of a build that concern every run of its engine."""

_PLACED = "samples are placed in time by when times.json was written: late by up to 0.1 s"

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One measurement by trtexec, read.

    Attributes:
        command: The command as run.
        log: What the tool said.
        reasons: How it ended, where that is not clean.
        times: The queries after the warm-up.
        offset_ns: Where the tool's time base lies on the monotonic clock.
        layers: Layer information; empty where there is none.
        unprinted: Measuring options that no version prints, as they were asked for.
        product: ``tensorrt`` or ``tensorrt_rtx``: they are numbered apart.
    """

    command: Sequence[str]
    log: TrtexecLog
    reasons: tuple[Reason, ...]
    times: Times
    offset_ns: int
    layers: tuple[Layer, ...] = ()
    unprinted: Json = field(default_factory=dict)
    product: str = "tensorrt"


def measurement(outcome: Outcome, engine: EngineRecord | None, t0_ns: int) -> Measurement:
    """Return what the harness stores of a run.

    Args:
        outcome: The measurement, read.
        engine: The engine's record; reasons of its build go over to the run.
        t0_ns: Origin of the run's times.
    """
    log, times = outcome.log, outcome.times
    start_ns = outcome.offset_ns + round(float(times.start_h2d_ms.min()) * 1e6)
    built_as = engine.realised_precision if engine else None
    return Measurement(
        # Layers come from the profile, with their times, once for each engine.
        tables={"latency_samples": latency_samples(times, offset_ns=outcome.offset_ns - t0_ns)},
        window_ns=(start_ns, start_ns + round(times.walltime_s * 1e9)),
        metrics=(_load_time(log), *_told(log)),
        reasons=(
            *outcome.reasons,
            *log.reasons(coefficient_of_variation_pct(times.compute_ms)),
            *build_reasons(engine),
        ),
        realised_precision=realised_precision(outcome.layers) or built_as,
        effective_options=log.effective_options() | dict(outcome.unprinted),
        versions={outcome.product: log.version} if log.version else {},
        command=shlex.join(outcome.command),
        counts={"inferences": float(len(times.latency_ms))},
        notes=(*log.notes(), *_device_notes(log), _PLACED),
    )


def engine_record(
    built: Path,
    log: TrtexecLog,
    *,
    target: Path,
    process_time_s: float,
    reasons: Sequence[Reason],
    layers: Sequence[Layer],
    command: Sequence[str],
    model: Json,
) -> EngineRecord:
    """Describe a new engine.

    Args:
        built: The engine file, under its temporary name.
        log: What the build said.
        target: The file's final place.
        process_time_s: From start to end of the process: the build time where the log does not tell it.
        reasons: Validity reasons of the build.
        layers: Layer information; empty where the tool wrote none.
        command: The command as run.
        model: The graph that was built: who put the precision into it, and its inputs' types.
    """
    with built.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return EngineRecord(
        engine_key=target.stem,
        engine_sha256=digest,
        path=target.name,
        size_bytes=built.stat().st_size,
        build_time_s=process_time_s if log.build.build_time_s is None else log.build.build_time_s,
        cached=False,
        realised_precision=realised_precision(layers),
        fingerprint=fingerprint(layers),
        details={
            "build": {name: value for name, value in dataclasses.asdict(log.build).items() if value is not None},
            "process_time_s": process_time_s,
            "tensorrt": log.version,
            "reasons": [
                {"code": reason.code, "detail": reason.detail} for reason in reasons if reason.code in _BUILD_REASONS
            ],
            "notes": list(log.notes()),
            "command": shlex.join(command),
            "model": model,
        },
        compute_capability=log.device.compute_capability,
        peak_gpu_mem_mib=log.build.peak_gpu_mib,
        peak_host_mem_mib=log.build.process_mib or log.build.peak_cpu_mib,
    )


def read_times(path: Path, log: TrtexecLog, job: Job) -> Times:
    """Read the exported queries, without the warm-up as the tool understood it, and hold them against the log.

    Raises:
        MeasurementError: There is no file, or nothing in it (``no_samples``); it is cut off, altered, or tells other
            numbers than the log (``results_damaged``).
    """
    if not path.is_file():
        raise MeasurementError(
            f"{job.case_key}: trtexec wrote no {path.name}",
            code="no_samples",
            remedy="read its log: a profiler without --separateProfileRun suppresses the export",
        )
    warmup_ms = log.options.warmup_ms if log.options.warmup_ms is not None else job.warmup_s * 1000
    times = parse_times(decode(path.read_bytes()), warmup_ms=warmup_ms)
    if log.summary is not None:
        check_agreement(times, log.summary, streams=log.options.streams)
    return times


def time_base(times: Times, path: Path, began_ns: int) -> int:
    """Return where the tool's time base lies on the monotonic clock.

    The tool prints no clock that could be compared. It writes ``times.json`` right after the last query, so the
    file's time stands for that query's end: late by the few tens of milliseconds that the report takes.
    """
    to_monotonic_ns = time.monotonic_ns() - time.time_ns()
    end_ns = path.stat().st_mtime_ns + to_monotonic_ns
    offset_ns = end_ns - round(float(times.end_d2h_ms.max()) * 1e6)
    # No query began before the process did.
    return max(offset_ns, began_ns - round(float(times.start_h2d_ms.min()) * 1e6))


def _load_time(log: TrtexecLog) -> MetricValue:
    parts = [value for value in (log.build.load_time_s, log.build.deserialize_time_s) if value is not None]
    if not parts:
        return MetricValue(metric="load_time_s", value=None, absent_reason="this version does not print it")
    return MetricValue(metric="load_time_s", value=sum(parts))


def _told(log: TrtexecLog) -> tuple[MetricValue, ...]:
    """Return what only the log tells."""
    enqueue = log.summary.latencies.get("Enqueue Time") if log.summary else None
    values = {
        "context_memory_mib": log.build.context_memory_mib,
        "enqueue_p50_ms": enqueue.median_ms if enqueue else None,
    }
    absent = "this version does not print it"
    return tuple(
        MetricValue(metric=name, value=value, absent_reason=absent if value is None else None)
        for name, value in values.items()
    )


def _device_notes(log: TrtexecLog) -> tuple[str, ...]:
    device = log.device
    if device.name is None:
        return ()
    return (f"trtexec ran on {device.name}, {device.sms} SMs, compute capability {device.compute_capability}",)


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Read layer information; empty where the tool wrote none that can be read."""
    return read_optional(path, parse_layers) or ()


def read_optional(path: Path, parse: Callable[[str], Parsed]) -> Parsed | None:
    """Read an export that explains a result but is not one: absent or broken, the result stands without it."""
    try:
        return parse(decode(path.read_bytes()))
    except (OSError, MeasurementError):
        return None
