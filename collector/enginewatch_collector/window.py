"""Time-weighted statistics of irregular samples over a window. Pure; times are integer ns on any one clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]

NEAREST_NS = 1_500_000_000
"""A state that was not read inside a short window is taken from the nearest read up to this far outside of it:
one and a half periods of the slow tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number over a window, or why there is none.

    Attributes:
        value: The number; ``None`` when absent.
        n: Samples behind it.
        why: Why it is absent.
    """

    value: float | None
    n: int = 0
    why: str | None = None


def absent(why: str) -> Estimate:
    """Return an absent estimate."""
    return Estimate(value=None, why=why)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One column of one device without its nulls, sorted by time."""

    t_ns: Times
    values: Numbers

    def __len__(self) -> int:
        return len(self.t_ns)


def interval_weights(t_ns: Times, start_ns: int, end_ns: int) -> npt.NDArray[np.float64]:
    """Weigh samples that each describe the time since the sample before: its overlap with the window, in ns.

    The first sample is taken to describe one median spacing.
    """
    spacing = int(np.median(np.diff(t_ns))) if len(t_ns) > 1 else end_ns - start_ns
    begins = np.concatenate([t_ns[:1] - spacing, t_ns[:-1]])
    overlap: Times = np.minimum(t_ns, end_ns) - np.maximum(begins, start_ns)
    return overlap.clip(min=0).astype(np.float64)


def instant_weights(t_ns: Times, start_ns: int, end_ns: int) -> npt.NDArray[np.float64]:
    """Weigh samples of a state: each holds for the part of the window that is nearer to it than to the others, in ns.

    Only samples inside the window count, so that a state before or after it does not leak in. When there is
    none, the nearest one within ``NEAREST_NS`` holds for all of it.
    """
    weights = np.zeros(len(t_ns))
    low, high = int(np.searchsorted(t_ns, start_ns, "left")), int(np.searchsorted(t_ns, end_ns, "right"))
    if low < high:
        inside = t_ns[low:high]
        bounds = np.concatenate([[start_ns], (inside[:-1] + inside[1:]) / 2, [end_ns]])
        weights[low:high] = np.diff(bounds)
    elif len(t_ns):
        distance = np.maximum(start_ns - t_ns, t_ns - end_ns)
        nearest = int(np.argmin(distance))
        weights[nearest] = end_ns - start_ns if distance[nearest] <= NEAREST_NS else 0
    return weights


def weighted_mean(series: Series, weights: npt.NDArray[np.float64]) -> Estimate:
    """Return the mean of the samples that have weight."""
    used = weights > 0
    if not used.any():
        return absent("no sample in the window")
    mean = np.average(series.values[used].astype(np.float64), weights=weights[used])
    return Estimate(value=float(mean), n=int(used.sum()))


def interval_mean(series: Series, start_ns: int, end_ns: int) -> Estimate:
    """Return the time-weighted mean of values that are means over the time since the sample before."""
    return weighted_mean(series, interval_weights(series.t_ns, start_ns, end_ns))


def instant_mean(series: Series, start_ns: int, end_ns: int) -> Estimate:
    """Return the time-weighted mean of a state."""
    return weighted_mean(series, instant_weights(series.t_ns, start_ns, end_ns))


def extreme(series: Series, start_ns: int, end_ns: int, *, largest: bool) -> Estimate:
    """Return the largest or smallest state seen in the window."""
    used = instant_weights(series.t_ns, start_ns, end_ns) > 0
    if not used.any():
        return absent("no sample in the window")
    values = series.values[used]
    return Estimate(value=float(values.max() if largest else values.min()), n=int(used.sum()))


def variation(series: Series, start_ns: int, end_ns: int) -> Estimate:
    """Return the time-weighted coefficient of variation of a state (standard deviation over mean)."""
    mean = instant_mean(series, start_ns, end_ns)
    if mean.value is None or mean.value == 0:
        return mean if mean.value is None else absent("the mean is zero")
    squares = Series(series.t_ns, (series.values.astype(np.float64) - mean.value) ** 2)
    variance = instant_mean(squares, start_ns, end_ns).value or 0.0
    return Estimate(value=float(np.sqrt(variance)) / mean.value, n=mean.n)


def bits_share(series: Series, bits: int, start_ns: int, end_ns: int) -> Estimate:
    """Return the share of the window (0 to 1) in which any of ``bits`` was set."""
    is_set = (series.values & np.uint64(bits)) != 0
    return instant_mean(Series(series.t_ns, is_set), start_ns, end_ns)


def counter_difference(series: Series, start_ns: int, end_ns: int) -> Estimate:
    """Return how much a cumulative counter grew between the ends of the window.

    Between two samples the counter is taken to grow evenly, so differences of adjacent windows add up. A
    counter that ran backwards (driver reload, reset, wrap) or that was not read on both sides gives no value.
    """
    if not len(series) or series.t_ns[0] > start_ns or series.t_ns[-1] < end_ns:
        return absent("the counter was not read on both sides of the window")
    low = int(np.searchsorted(series.t_ns, start_ns, "right")) - 1
    high = int(np.searchsorted(series.t_ns, end_ns, "left"))
    times, counts = series.t_ns[low : high + 1], series.values[low : high + 1]
    steps = np.diff(counts)
    if (steps < 0).any():
        return absent(f"the counter ran backwards by {-int(steps.min())}")
    # relative to the first sample: ns since boot and mJ since driver load would lose digits as floats
    grown = np.interp([start_ns - int(times[0]), end_ns - int(times[0])], times - times[0], counts - counts[0])
    return Estimate(value=float(grown[1] - grown[0]), n=len(times))


def missed_share(t_ns: Times, start_ns: int, end_ns: int, period_ns: int | None) -> float:
    """Return the share of the ticks of a window in which nothing was read.

    Args:
        t_ns: Sorted times of all rows of one device.
        start_ns: Start of the window.
        end_ns: End of the window.
        period_ns: Distance of two ticks; ``None`` to take the median distance of the rows.
    """
    if not len(t_ns):
        return 1.0
    if period_ns is None:
        period_ns = max(1, int(np.median(np.diff(t_ns)))) if len(t_ns) > 1 else end_ns - start_ns
    expected = max(1, (end_ns - start_ns) // period_ns)
    inside = t_ns[(t_ns >= start_ns) & (t_ns <= end_ns)]
    # rows of the slow tier lie in the tick of a fast one: slots are counted, not rows
    slots = len(np.unique(np.round((inside - t_ns[0]) / period_ns)))
    return max(0.0, 1 - slots / expected)
