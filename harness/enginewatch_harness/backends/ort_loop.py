"""The timed loop: one clock read before and one after each inference, and nothing else that can be avoided."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewatch_db.tables import conform

if TYPE_CHECKING:
    import pyarrow as pa

REPORT_INTERVAL_NS = 250_000_000
"""Between progress reports. One report costs 0.2 to 0.4 ms between two samples and moves the next one by under 1 %."""

_MEDIAN_OF_LAST = 128
_SPARE = 1.5
_MIN_CAPACITY = 1024
_MAX_CAPACITY = 1 << 20  # 16 MiB for starts and latencies; what exceeds it doubles the room as it comes

Infer = Callable[[], object]
Report = Callable[[int, float | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measuring phase on the monotonic clock, with start and latency of every inference, in ns."""

    start_ns: int
    end_ns: int
    starts: array[int]
    latencies: array[int]


def warm_up(infer: Infer, seconds: float) -> int:
    """Run for ``seconds`` and at least three times; return the median latency (ns) of the later half."""
    now = time.monotonic_ns
    latencies: list[int] = []
    deadline = now() + round(seconds * 1e9)
    while len(latencies) < 3 or now() < deadline:
        begin = now()
        infer()
        latencies.append(now() - begin)
    later = sorted(latencies[len(latencies) // 2 :])
    return later[len(later) // 2]


def delayed(infer: Infer, delay_ns: int) -> Infer:
    """Return ``infer`` followed by a busy wait of ``delay_ns``: a slowdown that a scheduler cannot round."""
    now = time.monotonic_ns

    def slow() -> None:
        infer()
        until = now() + delay_ns
        while now() < until:
            pass

    return slow


def measure(
    infer: Infer, *, duration_s: float, expected_ns: int, report: Report, after: Callable[[], object] | None = None
) -> Window:
    """Run for ``duration_s`` and at least once, keeping every sample.

    Args:
        infer: One inference.
        duration_s: Length of the window in seconds; the inference that begins within it is the last.
        expected_ns: Latency that the warm-up saw: how much room to set aside.
        report: Called between samples, four times a second, with the count and the running median in ms.
        after: Called after each inference, outside its time: reads what the inference left (CUDA events).
    """
    duration_ns = round(duration_s * 1e9)
    capacity = min(_MAX_CAPACITY, max(_MIN_CAPACITY, int(duration_ns / max(expected_ns, 1) * _SPARE)))
    starts, latencies = array("q", bytes(8 * capacity)), array("q", bytes(8 * capacity))
    with collector_paused():
        start, end, count = _loop(infer, duration_ns, starts, latencies, report, after or _nothing)
    del starts[count:], latencies[count:]
    return Window(start_ns=start, end_ns=end, starts=starts, latencies=latencies)


def _nothing() -> None:
    """Do nothing: cheaper than a question in the loop."""


def _loop(
    infer: Infer,
    duration_ns: int,
    starts: array[int],
    latencies: array[int],
    report: Report,
    after: Callable[[], object],
) -> tuple[int, int, int]:
    now = time.monotonic_ns
    count, capacity = 0, len(starts)
    start = end = now()
    deadline, next_report = start + duration_ns, start + REPORT_INTERVAL_NS
    while end < deadline or count == 0:
        begin = now()
        infer()
        end = now()
        starts[count] = begin
        latencies[count] = end - begin
        after()
        count += 1
        if count == capacity:  # the window is faster than the warm-up was: double the room, between two samples
            starts.frombytes(bytes(8 * capacity))
            latencies.frombytes(bytes(8 * capacity))
            capacity *= 2
        if end >= next_report:
            report(count, _recent_median_ms(latencies, count))
            next_report = now() + REPORT_INTERVAL_NS
    return start, end, count


def _recent_median_ms(latencies: array[int], count: int) -> float:
    recent = sorted(latencies[max(0, count - _MEDIAN_OF_LAST) : count])
    return recent[len(recent) // 2] / 1e6


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's garbage collector out of the window."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def samples_table(window: Window, gpu_ns: array[int], t0_ns: int) -> pa.Table:
    """Return the table of latency samples (``tables.LATENCY_SAMPLES``); times of the GPU where it was timed.

    Args:
        window: The timed inferences.
        gpu_ns: GPU time of each; another number of them than inferences: none.
        t0_ns: Origin of the run's times.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {
        "start_ns": np.frombuffer(window.starts, np.int64) - t0_ns,
        "latency_ns": np.frombuffer(window.latencies, np.int64),
    }
    if len(gpu_ns) == len(window.latencies):
        columns["gpu_ns"] = np.frombuffer(gpu_ns, np.int64)
    return conform("latency_samples", pa.table(columns))
