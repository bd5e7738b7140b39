"""A summary as what a run stores: the table ``kernels``, metrics of the kind diagnostic, notes. Pure."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from enginewatch_db.metrics import MetricValue
from enginewatch_db.tables import conform
from enginewatch_harness.backends.base import Profiled
from enginewatch_harness.nsys.events import Recording
from enginewatch_harness.nsys.rules import hints
from enginewatch_harness.nsys.scrub import Scrubber
from enginewatch_harness.nsys.summary import KernelRow, Summary, summarize

DIAGNOSTICS = (
    "profile_gpu_idle_pct",
    "profile_kernels_per_inference",
    "profile_launch_api_p50_us",
    "profile_launch_latency_p50_us",
    "profile_memcpy_overlap_pct",
)
"""Every diagnosis stores each of them, or why it is absent."""


def absent(reason: str, source: str | None = None, notes: tuple[str, ...] = ()) -> Profiled:
    """Return the diagnosis that could not be made."""
    return Profiled(
        metrics=tuple(MetricValue(metric=key, value=None, absent_reason=reason, source=source) for key in DIAGNOSTICS),
        notes=notes,
    )


def profiled(recording: Recording, inferences: int | None, scrubber: Scrubber) -> Profiled:
    """Return what a recording brings to a run.

    Args:
        recording: What a profiler recorded.
        inferences: How many it saw at least.
        scrubber: Takes private words out of what is stored.
    """
    summary = summarize(recording, inferences)
    if summary is None:
        return absent("the profiler recorded no work on a GPU", recording.source, recording.notes)
    return Profiled(
        tables={"kernels": kernels_table(summary.kernels, recording.source, scrubber.name)} if summary.kernels else {},
        metrics=metrics(summary, recording.source),
        notes=tuple(map(scrubber.name, notes(recording, summary))),
    )


def kernels_table(rows: tuple[KernelRow, ...], source: str, clean: Callable[[str], str] = str) -> pa.Table:
    """Return the table ``kernels``, most time first."""
    return conform(
        "kernels",
        pa.table(
            {
                "kernel_idx": list(range(len(rows))),
                "name": [clean(row.name) for row in rows],
                "layer": pa.array([None if row.layer is None else clean(row.layer) for row in rows], pa.string()),
                "calls": [row.calls for row in rows],
                "total_ns": [row.total_ns for row in rows],
                "mean_ns": [row.mean_ns for row in rows],
                "median_ns": [row.median_ns for row in rows],
                "min_ns": [row.min_ns for row in rows],
                "max_ns": [row.max_ns for row in rows],
                "time_pct": [row.time_pct for row in rows],
                "grid": pa.array([row.grid for row in rows], pa.string()),
                "block": pa.array([row.block for row in rows], pa.string()),
                "source": [source] * len(rows),
            }
        ),
    )


def metrics(summary: Summary, source: str) -> tuple[MetricValue, ...]:
    """Return ``DIAGNOSTICS``: each with a value, or with why it has none."""
    no_launch = "no API call that launched this work was recorded"
    per_inference = summary.window.kernels_per_inference
    found: tuple[tuple[float | None, str, int | None], ...] = (
        (summary.idle_pct, "the recorded work took no time", None),
        (per_inference, summary.window.why or "", summary.window.inferences),
        (summary.launch_api_p50_us, no_launch, summary.launches),
        (summary.launch_latency_p50_us, no_launch, summary.launches),
        (summary.memcpy_overlap_pct, "nothing was copied", None),
    )
    return tuple(
        MetricValue(metric=key, value=None, absent_reason=why, source=source)
        if value is None
        else MetricValue(metric=key, value=float(value), n=n, source=source)
        for key, (value, why, n) in zip(DIAGNOSTICS, found, strict=True)
    )


def notes(recording: Recording, summary: Summary) -> tuple[str, ...]:
    """Return the findings in words."""
    tool = " ".join(filter(None, (recording.source, recording.version)))
    window = summary.window
    whole_ms = (window.end_ns - window.start_ns) / 1e6
    seen = "all of the recording" if window.inferences is None else f"{window.inferences} inferences"
    launched = sum(row.calls for row in summary.kernels)
    head = f"{tool}: {seen}, {launched} kernels in {whole_ms:.3g} ms; its times are no measurement"
    why = (f"{tool}: {window.why}",) if window.why else ()
    missing = tuple(f"{tool}: {note}" for note in recording.notes)
    found = tuple(f"{tool}: {hint.words}; {hint.advice}" for hint in hints(recording, summary))
    return (head, *why, *missing, *found)
