"""A summary for people and for machines. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from enginewatch_harness.nsys.events import Recording
from enginewatch_harness.nsys.rules import hints
from enginewatch_harness.nsys.scrub import Scrubber
from enginewatch_harness.nsys.summary import CallRow, CopyRow, Gap, KernelRow, Summary

Table = dict[str, list[str]]


def as_json(recording: Recording, summary: Summary | None, scrubber: Scrubber) -> dict[str, Any]:
    """Return all of it as JSON values; ``summary`` is null where nothing ran on a GPU."""
    document: dict[str, Any] = {
        "source": recording.source,
        "version": recording.version,
        "schema": recording.schema,
        "notes": list(recording.notes),
        "summary": None,
        "hints": [],
    }
    if summary is not None:
        document["summary"] = {**asdict(summary), "gpu_idle_pct": summary.idle_pct}
        document["hints"] = [asdict(hint) for hint in hints(recording, summary)]
    cleaned: dict[str, Any] = _clean(document, scrubber)
    return cleaned


def _clean(value: Any, scrubber: Scrubber) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return scrubber.name(value)
    if isinstance(value, dict):
        return {key: _clean(item, scrubber) for key, item in value.items()}
    return [_clean(item, scrubber) for item in value] if isinstance(value, list | tuple) else value


def kernel_table(rows: tuple[KernelRow, ...]) -> Table:
    """Return the columns of a table of kernels."""
    return {
        "time %": [f"{row.time_pct:.1f}" for row in rows],
        "total µs": [_us(row.total_ns) for row in rows],
        "calls": [str(row.calls) for row in rows],
        "median µs": [_us(row.median_ns) for row in rows],
        "max µs": [_us(row.max_ns) for row in rows],
        "grid": [row.grid or "–" for row in rows],
        "block": [row.block or "–" for row in rows],
        "layer": [row.layer or "–" for row in rows],
        "kernel": [row.name for row in rows],
    }


def copy_table(rows: tuple[CopyRow, ...]) -> Table:
    """Return the columns of a table of copies and memsets."""
    return {
        "what": [row.kind for row in rows],
        "count": [str(row.count) for row in rows],
        "total µs": [_us(row.total_ns) for row in rows],
        "MiB": ["–" if row.size_bytes is None else f"{row.size_bytes / 2**20:.3g}" for row in rows],
        "GiB/s": ["–" if row.gib_s is None else f"{row.gib_s:.3g}" for row in rows],
        "pageable": ["–" if row.pageable is None else str(row.pageable) for row in rows],
    }


def call_table(rows: tuple[CallRow, ...]) -> Table:
    """Return the columns of a table of API calls."""
    return {
        "API call": [row.name for row in rows],
        "calls": [str(row.calls) for row in rows],
        "total µs": [_us(row.total_ns) for row in rows],
        "median µs": [_us(row.median_ns) for row in rows],
        "max µs": [_us(row.max_ns) for row in rows],
    }


def gap_table(rows: tuple[Gap, ...]) -> Table:
    """Return the columns of a table of the longest gaps."""
    return {
        "idle µs": [_us(row.duration_ns) for row in rows],
        "from ms": [f"{row.start_ns / 1e6:.3f}" for row in rows],
        "after": [row.before for row in rows],
        "before": [row.after for row in rows],
    }


def facts(summary: Summary) -> list[str]:
    """Return the numbers that are no table, one line each."""
    window = summary.window
    whole = window.end_ns - window.start_ns
    seen = f" for {window.inferences} inferences" if window.inferences else ""
    each = window.kernels_per_inference
    return [
        f"window: {whole / 1e6:.3f} ms{seen}" + (f", {each} kernels each" if each else ""),
        f"GPU idle: {_or_dash(summary.idle_pct, '%')} in {summary.gap_count} gaps",
        f"launches: {summary.launches}, median {_or_dash(summary.launch_api_p50_us, 'µs')} in the call, "
        f"{_or_dash(summary.launch_latency_p50_us, 'µs')} until its first kernel",
        f"copies beside kernels: {_or_dash(summary.memcpy_overlap_pct, '%')} of their time",
        *(f"{name}: busy {_us(busy)} µs" for name, busy in summary.streams.items()),
    ]


def _us(time_ns: int) -> str:
    return f"{time_ns / 1000:.2f}"


def _or_dash(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.3g} {unit}"
