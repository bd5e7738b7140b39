"""Quantiles of one run's samples, with intervals. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

HD_MAX_N = 20_000
"""Above this many samples the Harrell-Davis weights span so few ranks that the plain estimate is the same."""

TAIL_SHARE = 0.02
"""Share of the slowest samples whose mean is the tail (shared finding: less noisy than p99)."""

MIN_SAMPLES = 20
P99_MIN_SAMPLES = 100
"""Below, no sample need lie beyond the 99th percentile: the value is the slowest one or two, not a quantile."""

TAIL_MIN_SAMPLES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantileEstimate:
    """A quantile with an interval that needs no distribution.

    Attributes:
        value: Harrell-Davis estimate, in the unit of the samples.
        ci_low: Lower end; ``None`` where n is too small for one.
        ci_high: Upper end; ``None`` where n is too small for one.
        n: Samples behind it.
    """

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int


def harrell_davis(ordered: NDArray[np.float64], q: float) -> float:
    """Return the Harrell-Davis quantile: all order statistics weighted by a Beta((n+1)q, (n+1)(1-q)).

    Source: F. E. Harrell and C. E. Davis, "A new distribution-free quantile estimator", Biometrika 69 (1982).

    Args:
        ordered: Samples in ascending order, shape (n,), n >= 1.
        q: Level in (0, 1).
    """
    n = ordered.size
    if n == 1 or n > HD_MAX_N:
        return float(np.quantile(ordered, q))
    edges = special.betainc((n + 1) * q, (n + 1) * (1 - q), np.arange(n + 1) / n)
    return float(np.diff(edges) @ ordered)


def order_statistic_interval(
    ordered: NDArray[np.float64], q: float, confidence: float
) -> tuple[float | None, float | None]:
    """Return the order-statistic interval of a quantile; an end is ``None`` where no rank covers it.

    Ranks from the binomial law of how many samples lie below the quantile (H. A. David, "Order Statistics",
    section 7.1). It assumes independent samples, so it speaks of this run alone, never of the next one.
    """
    low, high = interval_ranks(ordered.size, q, confidence)
    return (None if low is None else float(ordered[low])), (None if high is None else float(ordered[high]))


def interval_ranks(n: int, q: float, confidence: float) -> tuple[int | None, int | None]:
    """Return which of ``n`` ordered samples are the ends of a quantile's interval, from 0.

    See ``order_statistic_interval``; for those who would rather not sort all samples.
    """
    tail = (1 - confidence) / 2
    low = _binomial_quantile(tail, n, q) - 1
    high = _binomial_quantile(1 - tail, n, q)
    return (low if low >= 0 else None), (high if high < n else None)


def _binomial_quantile(p: float, n: int, q: float) -> int:
    """Return the smallest k with P(X <= k) >= p, X binomial; ``scipy.stats`` takes half a second to import."""
    k = int(np.ceil(special.bdtrik(p, n, q)))
    return k - 1 if k > 0 and special.bdtr(k - 1, n, q) >= p else k


def estimate(values: NDArray[np.float64], q: float, confidence: float = 0.95) -> QuantileEstimate:
    """Return the quantile of ``values`` with its order-statistic interval.

    Args:
        values: Samples in any order, shape (n,), n >= 1, finite.
        q: Level in (0, 1).
        confidence: Level of the interval.

    Raises:
        ValueError: ``values`` is empty or has values that are not finite, or ``q`` lies outside (0, 1).
    """
    if not 0 < q < 1:
        raise ValueError(f"quantile level {q} is outside (0, 1)")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0 or not np.isfinite(ordered[[0, -1]]).all():
        raise ValueError(f"quantile of {ordered.size} samples, of which some may not be finite")
    low, high = order_statistic_interval(ordered, q, confidence)
    return QuantileEstimate(value=harrell_davis(ordered, q), ci_low=low, ci_high=high, n=int(ordered.size))


def tail_log_ratio(values: NDArray[np.float64]) -> float | None:
    """Return log(mean of the slowest 2 %) - log(median), or ``None`` below 100 samples or a zero median."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size < round(2 / TAIL_SHARE):
        return None
    slowest = ordered[-max(2, round(TAIL_SHARE * ordered.size)) :]
    median = float(np.median(ordered))
    return float(np.log(slowest.mean()) - np.log(median)) if median > 0 else None
