"""How much runs of one build differ, and how much builds do: a one-way random-effects model of log values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_GROUPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, in percent of the value; ``high`` is ``None`` where it has no end."""

    low: float
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Standard deviations of the logarithm times 100: percent, as long as they are small.

    Attributes:
        run_sd_pct: Between runs of one build; ``None`` where no build ran twice.
        build_sd_pct: Between builds, freed of the runs' share; 0 where the builds differ by no more than their runs
            explain; ``None`` with one build, or where no build ran twice.
        run_ci: Interval of ``run_sd_pct``.
        build_ci: Interval of ``build_sd_pct``.
        truncated: Whether the estimate between builds came out negative and was set to 0.
        p_value: Probability of means that differ this much where builds do not (F test); ``None`` as above.
        builds: Number of builds.
        runs: Number of runs.
        confidence: Level of the intervals.
    """

    run_sd_pct: float | None
    build_sd_pct: float | None
    run_ci: Interval | None
    build_ci: Interval | None
    truncated: bool
    p_value: float | None
    builds: int
    runs: int
    confidence: float


def build_spread(groups: Sequence[Sequence[float]], *, confidence: float = 0.95) -> Spread:
    """Split the spread of runs into a part between runs and a part between builds.

    The model is log(value) = m + build + run with independent normal effects. Estimates are those of the analysis of
    variance (method of moments), for groups of any sizes: s_run^2 = MSW and s_build^2 = (MSB - MSW) / n0 with
    n0 = (N - sum(n_i^2) / N) / (k - 1), set to 0 where negative: Searle, Casella and McCulloch, "Variance
    Components" (1992), section 3.6. For equal groups it is the REML estimate as well.

    The interval of s_run is exact: (N - k) s_run^2 / sigma^2 has a chi-squared distribution. That of s_build is of
    Thomas and Hultquist, "Interval estimation for the unbalanced case of the one-way random effects model" (Annals of
    Statistics 6, 1978): the sample variance of the group means times the harmonic mean of the sizes is nearly
    chi-squared, combined with MSW as in Williams (Biometrika 49, 1962). Its ends are set to 0 where negative.

    Args:
        groups: One sequence of values a build; each value is a run's own statistic (its median), in any unit, > 0.
        confidence: Level of the intervals.

    Raises:
        ValueError: A value is not positive, or there is none.
    """
    values = [np.asarray(group, dtype=float) for group in groups if len(group)]
    if not values or not all(np.all(np.isfinite(item) & (item > 0)) for item in values):
        raise ValueError("a spread needs at least one value, and all of them positive")
    logs = [np.log(item) for item in values]
    total = sum(item.size for item in logs)
    builds, free = len(logs), total - len(logs)
    if free == 0:
        return _nothing(builds, total, confidence)
    within = sum(float(((item - item.mean()) ** 2).sum()) for item in logs) / free
    run_ci = _run_interval(within, free, confidence)
    if builds < MIN_GROUPS:
        return _spread(within, None, run_ci, None, builds=builds, runs=total, confidence=confidence)
    return _between(logs, within, free, run_ci, confidence)


def _between(logs: list[NDArray[np.float64]], within: float, free: int, run_ci: Interval, confidence: float) -> Spread:
    sizes = np.array([item.size for item in logs], dtype=float)
    means = np.array([item.mean() for item in logs])
    builds, total = len(logs), int(sizes.sum())
    grand = float((sizes * means).sum() / total)
    between = float((sizes * (means - grand) ** 2).sum()) / (builds - 1)
    n0 = (total - float((sizes**2).sum()) / total) / (builds - 1)
    component = (between - within) / n0
    p_value = float(stats.f.sf(between / within, builds - 1, free)) if within > 0 else None
    return _spread(
        within,
        component,
        run_ci,
        _build_interval(means, sizes, within, free, confidence),
        builds=builds,
        runs=total,
        confidence=confidence,
        p_value=p_value,
    )


def _spread(
    within: float,
    component: float | None,
    run_ci: Interval,
    build_ci: Interval | None,
    *,
    builds: int,
    runs: int,
    confidence: float,
    p_value: float | None = None,
) -> Spread:
    return Spread(
        run_sd_pct=100 * math.sqrt(within),
        build_sd_pct=None if component is None else 100 * math.sqrt(max(component, 0.0)),
        run_ci=run_ci,
        build_ci=build_ci,
        truncated=component is not None and component < 0,
        p_value=p_value,
        builds=builds,
        runs=runs,
        confidence=confidence,
    )


def _nothing(builds: int, runs: int, confidence: float) -> Spread:
    return Spread(
        run_sd_pct=None,
        build_sd_pct=None,
        run_ci=None,
        build_ci=None,
        truncated=False,
        p_value=None,
        builds=builds,
        runs=runs,
        confidence=confidence,
    )


def _run_interval(within: float, free: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low = free * within / float(stats.chi2.isf(tail, free))
    high = free * within / float(stats.chi2.isf(1 - tail, free))
    return Interval(low=100 * math.sqrt(low), high=100 * math.sqrt(high))


def _build_interval(
    means: NDArray[np.float64], sizes: NDArray[np.float64], within: float, free: int, confidence: float
) -> Interval:
    builds = means.size
    harmonic = builds / float((1 / sizes).sum())
    square = harmonic * float(means.var(ddof=1))
    tail = (1 - confidence) / 2
    ratio = square / within if within > 0 else math.inf
    spread = (builds - 1) * square / harmonic

    def end(side: float) -> float:
        fisher = float(stats.f.isf(side, builds - 1, free))
        share = 1 - fisher / ratio if ratio > 0 else 0.0
        return 100 * math.sqrt(max(spread * share / float(stats.chi2.isf(side, builds - 1)), 0.0))

    return Interval(low=end(tail), high=end(1 - tail))
