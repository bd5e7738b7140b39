"""The timed loop: host time and GPU time of each inference, or GPU time of bursts where one is too short to time."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from enginewatch_harness.backends.ort_loop import collector_paused

REPORT_INTERVAL_NS = 250_000_000

EVENT_RESOLUTION_NS = 500
"""Of ``cudaEventElapsedTime``, by its documentation."""

SHORT_NS = 20_000
"""Below it the resolution of events is more than 2.5 % of an inference: GPU time then comes from bursts."""

_BURST_NS = 200_000
"""Length of a burst: the resolution of events is 0.25 % of it."""

_MEDIAN_OF_LAST = 128

Elapsed = tuple[int, int | None, int | None]
"""GPU time, transfer in and transfer out of one inference, in ns; ``None``: nothing was transferred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The measuring phase on the monotonic clock, in ns, with one item for each inference."""

    start_ns: int
    end_ns: int
    starts: array[int]
    latencies: array[int]
    gpu: array[int]
    h2d: array[int] | None = None
    d2h: array[int] | None = None


def run_timed(
    infer: Callable[[], None],
    elapsed: Callable[[], Elapsed],
    *,
    duration_s: float,
    delay_ns: int,
    report: Callable[[int, float | None], None],
) -> Timings:
    """Run for ``duration_s`` and at least once, one inference after the other, keeping every sample.

    Args:
        infer: One inference, waited for.
        elapsed: Its times on the GPU; asked for outside of the host's time.
        duration_s: Length in seconds; the inference that begins within it is the last.
        delay_ns: Busy wait inside each timed inference, for tests of the gate.
        report: Called four times a second with the count and the running median in ms.
    """
    now = time.monotonic_ns
    starts, latencies, gpu, h2d, d2h = (array("q") for _ in range(5))
    with collector_paused():
        start = end = now()
        deadline, next_report = start + round(duration_s * 1e9), start + REPORT_INTERVAL_NS
        while end < deadline or not starts:
            begin = now()
            infer()
            if delay_ns:
                _busy_wait(now() + delay_ns)
            end = now()
            starts.append(begin)
            latencies.append(end - begin)
            gpu_ns, in_ns, out_ns = elapsed()
            gpu.append(gpu_ns)
            if in_ns is not None and out_ns is not None:
                h2d.append(in_ns)
                d2h.append(out_ns)
            if end >= next_report:
                report(len(starts), median(latencies[-_MEDIAN_OF_LAST:]) / 1e6)
                next_report = now() + REPORT_INTERVAL_NS
    return Timings(
        start_ns=start,
        end_ns=end,
        starts=starts,
        latencies=latencies,
        gpu=gpu,
        h2d=h2d or None,
        d2h=d2h or None,
    )


def _busy_wait(until_ns: int) -> None:
    while time.monotonic_ns() < until_ns:
        pass


def burst_size(gpu_ns: float) -> int:
    """Return how many inferences one pair of events must span; 1 where a single one is long enough to time."""
    return 1 if gpu_ns >= SHORT_NS else math.ceil(_BURST_NS / max(gpu_ns, EVENT_RESOLUTION_NS))


def run_bursts(burst: Callable[[int], int], *, size: int, bursts: int) -> list[float]:
    """Return GPU time per inference in ns, from bursts of ``size`` back to back; ``burst`` returns the ns of one."""
    with collector_paused():
        return [burst(size) / size for _ in range(bursts)]
