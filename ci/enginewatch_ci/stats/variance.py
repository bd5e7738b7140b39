"""How much runs of one build differ, and how much builds do: a one-way random-effects model of log values. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
        builds: Number of distinct builds.
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
        cases: For each case, one sequence of values a build, as in ``build_spread``; no two are of one build.
        confidence: Level of the intervals.

    Raises:
        ValueError: A value is not positive, or there is none.
    """
    named = [{f"{case}.{build}": group for build, group in enumerate(groups)} for case, groups in enumerate(cases)]
    return _estimate([_part([groups]) for groups in named], confidence)


def joined_spread(cases: Sequence[Sequence[Mapping[str, Sequence[float]]]], *, confidence: float = 0.95) -> Spread:
    """Split the spread of cases whose builds were measured in several sessions, or serve several cases.

    Sessions are fixed blocks: the least-squares fit log(value) = session + build takes out what changed between two
    sessions that share builds, and one degree of freedom between runs for each further session. Sessions of a case
    that share no build have a mean each, like two cases. Where each session ran each build equally often, the estimates
    are those of the analysis of variance; else nearly.

    One build may serve several cases (batches), and what it is faster by in one, it may be in all. A case's squares
    between builds are therefore weighted so that builds which are connected by cases that they share have as many
    degrees of freedom together as there are distinct builds, less one. If a build is faster by the same in all its
    cases the interval is right; if by something else in each, it is too wide, never too narrow.

    Args:
        cases: For each case its sessions, each with build → values of its runs.
        confidence: Level of the intervals.

    Raises:
        ValueError: A value is not positive, or there is none.
    """
    return _estimate([_part(block) for sessions in cases for block in _connected(sessions)], confidence)


def _connected(sessions: Sequence[Mapping[str, Sequence[float]]]) -> list[list[Mapping[str, Sequence[float]]]]:
    """Return the sessions of a case in blocks: two are in one where a chain of shared builds leads between them."""
    return [[sessions[place] for place in block] for block in _blocks([frozenset(item) for item in sessions])]


def _blocks(named: Sequence[frozenset[str]]) -> list[list[int]]:
    """Return the places of sets that are connected by names they share."""
    blocks: list[tuple[frozenset[str], list[int]]] = []
    for place, names in enumerate(named):
        touched = [block for block in blocks if block[0] & names]
        blocks = [block for block in blocks if not block[0] & names]
        members = sorted([place, *(member for _, members in touched for member in members)])
        blocks.append((names.union(*(block[0] for block in touched)), members))
    return [members for _, members in blocks]


def _estimate(parts: Sequence[_Part], confidence: float) -> Spread:
    builds, runs = len(frozenset().union(*(part.names for part in parts))), sum(part.runs for part in parts)
    free = sum(part.runs_free for part in parts)
    if free == 0:
        return _spread(builds=builds, runs=runs, confidence=confidence)
    within = sum(part.within for part in parts) / free
    run_ci = _run_interval(within, free, confidence)
    several = _shared([part for part in parts if part.builds >= MIN_GROUPS])
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


def _shared(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts with the degrees of freedom that their distinct builds have together."""
    found = []
    for block in _blocks([part.names for part in parts]):
        members = [parts[place] for place in block]
        distinct = len(frozenset().union(*(part.names for part in members))) - 1
        counted = sum(part.builds - 1 for part in members)
        found += [replace(part, free=(part.builds - 1) * distinct / counted) for part in members]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The sums of one case, or of those of its sessions that share builds.

    Attributes:
        names: The builds.
        runs: Number of runs.
        runs_free: Degrees of freedom between runs of one build.
        free: Degrees of freedom between builds.
        within: Sum of squares around the means of the builds.
        mean_square: Between the builds, weighted by their runs; 0 with one build.
        means_var: Variance of the builds' means, unweighted; 0 with one build.
        n0: Runs a build, as the mean squares count them.
        harmonic: Harmonic mean of the runs a build.
    """

    names: frozenset[str]
    runs: int
    runs_free: int
    free: float
    within: float
    mean_square: float
    means_var: float
    n0: float
    harmonic: float

    @property
    def builds(self) -> int:
        """Number of builds."""
        return len(self.names)


def _part(sessions: Sequence[Mapping[str, Sequence[float]]]) -> _Part:
    logs = _without_sessions([{name: _logs(group) for name, group in item.items()} for item in sessions])
    if not logs:
        raise ValueError("a spread needs at least one value, and all of them positive")
    values = [*logs.values()]
    sizes = np.array([item.size for item in values], dtype=float)
    means = np.array([item.mean() for item in values])
    builds, runs = len(values), int(sizes.sum())
    grand = float((sizes * means).sum() / runs)
    several = builds >= MIN_GROUPS
    return _Part(
        names=frozenset(logs),
        runs=runs,
        runs_free=runs - builds - (len(sessions) - 1),
        free=builds - 1,
        within=sum(float(((item - item.mean()) ** 2).sum()) for item in values),
        mean_square=float((sizes * (means - grand) ** 2).sum()) / (builds - 1) if several else 0.0,
        means_var=float(means.var(ddof=1)) if several else 0.0,
        n0=(runs - float((sizes**2).sum()) / runs) / (builds - 1) if several else float(runs),
        harmonic=builds / float((1 / sizes).sum()),
    )


def _logs(group: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(group, dtype=float)
    if not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError("a spread needs at least one value, and all of them positive")
    found: NDArray[np.float64] = np.log(values)
    return found


def _without_sessions(sessions: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Return build → values less what their session adds, from the least-squares fit of session + build."""
    cells = [(place, name, item) for place, cell in enumerate(sessions) for name, item in cell.items() if item.size]
    names = sorted({name for _, name, _ in cells})
    if len(sessions) > 1:
        # Each cell's mean with its runs as weight has the same normal equations as its runs, and there are fewer.
        root = np.sqrt([item.size for *_, item in cells])
        design = np.zeros((len(cells), len(names) + len(sessions)))
        for row, (place, name, _) in enumerate(cells):
            design[row, names.index(name)] = design[row, len(names) + place] = root[row]
        effects = np.linalg.lstsq(design, root * [item.mean() for *_, item in cells], rcond=None)[0][len(names) :]
        cells = [(place, name, item - effects[place]) for place, name, item in cells]
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for _, name, item in cells:
        found[name].append(item)
    return {name: np.concatenate(items) for name, items in found.items()}


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
