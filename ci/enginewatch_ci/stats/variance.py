"""How much runs of one build differ, and how much builds do: a one-way random-effects model of log values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
    return pooled_spread([groups], confidence=confidence)


def pooled_spread(cases: Sequence[Sequence[Sequence[float]]], *, confidence: float = 0.95) -> Spread:
    """Split the spread of several cases that are taken to have the same two standard deviations.

    Each case has a mean of its own; squares and degrees of freedom are added up over the cases, so that a few builds
    of each say together what those of one cannot. With one case this is ``build_spread``.

    Args:
        cases: For each case, one sequence of values a build, as in ``build_spread``.
        confidence: Level of the intervals.

    Raises:
        ValueError: A value is not positive, or there is none.
    """
    parts = [_part(groups) for groups in cases]
    builds, runs = sum(part.builds for part in parts), sum(part.runs for part in parts)
    free = runs - builds
    if free == 0:
        return _spread(builds=builds, runs=runs, confidence=confidence)
    within = sum(part.within for part in parts) / free
    run_ci = _run_interval(within, free, confidence)
    several = [part for part in parts if part.builds >= MIN_GROUPS]
    if not several:
        return _spread(within, run_ci=run_ci, builds=builds, runs=runs, confidence=confidence)
    between = sum(part.free for part in several)
    component = sum(part.free * (part.mean_square - within) / part.n0 for part in several) / between
    ratio = sum(part.free * part.mean_square for part in several) / between / within if within > 0 else None
    return _spread(
        within,
        component,
        run_ci=run_ci,
        build_ci=_build_interval(several, within, free, confidence),
        p_value=None if ratio is None else float(stats.f.sf(ratio, between, free)),
        builds=builds,
        runs=runs,
        confidence=confidence,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The sums of one case.

    Attributes:
        within: Sum of squares around the means of the builds.
        mean_square: Between the builds, weighted by their runs; 0 with one build.
        means_var: Variance of the builds' means, unweighted; 0 with one build.
        n0: Runs a build, as the mean squares count them.
        harmonic: Harmonic mean of the runs a build.
    """

    builds: int
    runs: int
    within: float
    mean_square: float
    means_var: float
    n0: float
    harmonic: float

    @property
    def free(self) -> int:
        """Degrees of freedom between builds."""
        return self.builds - 1


def _part(groups: Sequence[Sequence[float]]) -> _Part:
    values = [np.asarray(group, dtype=float) for group in groups if len(group)]
    if not values or not all(np.all(np.isfinite(item) & (item > 0)) for item in values):
        raise ValueError("a spread needs at least one value, and all of them positive")
    logs = [np.log(item) for item in values]
    sizes = np.array([item.size for item in logs], dtype=float)
    means = np.array([item.mean() for item in logs])
    builds, runs = len(logs), int(sizes.sum())
    grand = float((sizes * means).sum() / runs)
    several = builds >= MIN_GROUPS
    return _Part(
        builds=builds,
        runs=runs,
        within=sum(float(((item - item.mean()) ** 2).sum()) for item in logs),
        mean_square=float((sizes * (means - grand) ** 2).sum()) / (builds - 1) if several else 0.0,
        means_var=float(means.var(ddof=1)) if several else 0.0,
        n0=(runs - float((sizes**2).sum()) / runs) / (builds - 1) if several else float(runs),
        harmonic=builds / float((1 / sizes).sum()),
    )


def _spread(
    within: float | None = None,
    component: float | None = None,
    *,
    builds: int,
    runs: int,
    confidence: float,
    run_ci: Interval | None = None,
    build_ci: Interval | None = None,
    p_value: float | None = None,
) -> Spread:
    return Spread(
        run_sd_pct=None if within is None else 100 * math.sqrt(within),
        build_sd_pct=None if component is None else 100 * math.sqrt(max(component, 0.0)),
        run_ci=run_ci,
        build_ci=build_ci,
        truncated=component is not None and component < 0,
        p_value=p_value,
        builds=builds,
        runs=runs,
        confidence=confidence,
    )


def _run_interval(within: float, free: int, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low = free * within / float(stats.chi2.isf(tail, free))
    high = free * within / float(stats.chi2.isf(1 - tail, free))
    return Interval(low=100 * math.sqrt(low), high=100 * math.sqrt(high))


def _build_interval(parts: Sequence[_Part], within: float, free: int, confidence: float) -> Interval:
    between = sum(part.free for part in parts)
    harmonic = between / sum(part.free / part.harmonic for part in parts)
    square = sum(part.free * part.harmonic * part.means_var for part in parts) / between
    tail = (1 - confidence) / 2
    ratio = square / within if within > 0 else math.inf

    def end(side: float) -> float:
        share = 1 - float(stats.f.isf(side, between, free)) / ratio if ratio > 0 else 0.0
        variance = between * square / harmonic * share / float(stats.chi2.isf(side, between))
        return 100 * math.sqrt(max(variance, 0.0))

    return Interval(low=end(tail), high=end(1 - tail))
