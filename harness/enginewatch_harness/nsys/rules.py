"""What commonly holds an inference back, looked for in a summary. Pure.

The questions are those of Nsight Systems' expert system (``nsys analyze``); the answers are computed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_harness.nsys.events import MEMCPY, Recording
from enginewatch_harness.nsys.summary import Summary

LOW_BUSY_PCT = 50.0
"""Share of the window with work on the GPU below which the host is taken to be what limits it."""

LONG_GAP_SHARE = 0.05
"""Share of an inference (of the window, where inferences cannot be told apart) from which one gap is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something that may be done better.

    Attributes:
        code: ``memcpy_pageable``, ``memcpy_sync``, ``memset_sync``, ``api_sync``, ``gpu_gaps`` or ``gpu_low_use``.
        words: What was found, with numbers.
        advice: What to do about it.
    """

    code: str
    words: str
    advice: str


def hints(recording: Recording, summary: Summary) -> tuple[Hint, ...]:
    """Return what was found in the window of a summary."""
    found = [
        _pageable(recording, summary),
        _blocking(summary, "memcpy_sync", ("cudaMemcpy", "cuMemcpy"), "copies", "use cudaMemcpyAsync on a stream"),
        _blocking(summary, "memset_sync", ("cudaMemset", "cuMemset"), "memsets", "use cudaMemsetAsync on a stream"),
        _waits(summary),
        _gaps(summary),
        _low_use(summary),
    ]
    return tuple(hint for hint in found if hint is not None)


def _pageable(recording: Recording, summary: Summary) -> Hint | None:
    low, high = summary.window.start_ns, summary.window.end_ns
    bad = [
        item
        for item in recording.work
        if item.kind == MEMCPY and item.pageable and item.end_ns > low and item.start_ns < high
    ]
    if not bad:
        return None
    time_ns = sum(item.end_ns - item.start_ns for item in bad)
    return Hint(
        code="memcpy_pageable",
        words=f"{len(bad)} copies from or to pageable host memory, {_ms(time_ns)} in all",
        advice="allocate the host's side with cudaHostAlloc: a copy of pageable memory blocks the host",
    )


def _blocking(summary: Summary, code: str, starts: tuple[str, ...], what: str, advice: str) -> Hint | None:
    rows = [row for row in summary.calls if row.name.startswith(starts) and "Async" not in row.name]
    if not rows:
        return None
    count, time_ns = sum(row.calls for row in rows), sum(row.total_ns for row in rows)
    return Hint(code=code, words=f"{count} synchronous {what}, the host waited {_ms(time_ns)} in all", advice=advice)


def _waits(summary: Summary) -> Hint | None:
    rows = [row for row in summary.calls if row.name.startswith("cu") and "Synchronize" in row.name]
    count, inferences = sum(row.calls for row in rows), summary.window.inferences
    # One wait for each inference is how its end is known.
    if not rows or (inferences is not None and count <= inferences + 1):
        return None
    each = f", {count / inferences:.3g} for each inference" if inferences else ""
    return Hint(
        code="api_sync",
        words=f"{count} calls that wait for the GPU{each}, {_ms(sum(row.total_ns for row in rows))} in all",
        advice="wait once for each inference; order work by streams and events",
    )


def _gaps(summary: Summary) -> Hint | None:
    whole = summary.window.end_ns - summary.window.start_ns
    one = whole / (summary.window.inferences or 1)
    long = [gap for gap in summary.gaps if one and gap.duration_ns >= LONG_GAP_SHARE * one]
    if not long:
        return None
    worst = long[0]
    return Hint(
        code="gpu_gaps",
        words=f"the GPU idles up to {_ms(worst.duration_ns)} at a time, between {worst.before} and {worst.after}",
        advice="see what the host does there; CUDA graphs shorten gaps between kernels",
    )


def _low_use(summary: Summary) -> Hint | None:
    idle = summary.idle_pct
    if idle is None or 100 - idle >= LOW_BUSY_PCT:
        return None
    return Hint(
        code="gpu_low_use",
        words=f"work runs on the GPU in only {100 - idle:.1f} % of the time",
        advice="use a larger batch, several streams or CUDA graphs",
    )


def _ms(time_ns: int) -> str:
    return f"{time_ns / 1e6:.3g} ms"
