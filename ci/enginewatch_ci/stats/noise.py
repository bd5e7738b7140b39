"""How noisy runs are: from their own intervals, from each other, and from the history of the series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from enginewatch_ci.stats.location import MAD_TO_SD, centred, robust_scale

MIN_RUN_SD = 0.001
"""Smallest run-to-run sd believed, in log units (0.1 %).

The quietest protocol measured (CUDA graph, spin-wait, no transfers, one H200) has 0.13 %; three runs that agree to
0.01 % agree by accident or by the resolution of a timer.
"""

MIN_HISTORY = 8
"""Earlier runs below which their spread says too little."""

PRIOR_DF = 8.0
"""Degrees of freedom granted to the history (simulated: 15 has more power, but when the machine is twice as noisy as
its history 5 % false alarms at a nominal 1 %; 8 with the guard has 3 %)."""

GUARD_LEVEL = 0.90
"""The history is dropped when the runs contradict it at this level of the F distribution."""

SPREAD_LEVEL = 0.95
"""Arms are taken to have unequal spread beyond this level of the F distribution of their robust variances."""

INTERVAL_CONFIDENCE = 0.95
"""Level of ``run_metrics.ci_low/ci_high`` (``enginewatch_db.quantile.estimate``)."""


def within_sd(low: float | None, value: float, high: float | None) -> float | None:
    """Return the within-run sd in log units from a run's own interval, or ``None`` where it has none.

    One end is enough (p99 of few samples has no upper one). The interval takes samples of one run as independent, so
    this is a lower bound: a floor for the run-to-run sd, never a replacement.
    """
    z = float(stats.norm.ppf((1 + INTERVAL_CONFIDENCE) / 2))
    if value <= 0 or (low is not None and low <= 0):
        return None
    if low is not None and high is not None:
        return float(np.log(high / low)) / (2 * z)
    if low is not None:
        return float(np.log(value / low)) / z
    return float(np.log(high / value)) / z if high is not None else None


def floor_sd(within: Sequence[float | None]) -> float:
    """Return the smallest run-to-run sd that these runs can have: the root mean square of their within-run sds."""
    known = [sd for sd in within if sd is not None]
    return max(MIN_RUN_SD, float(np.sqrt(np.mean(np.square(known)))) if known else 0.0)


def history_sd(logs: Sequence[float]) -> float | None:
    """Return the run-to-run sd in log units of earlier runs, oldest first; ``None`` below ``MIN_HISTORY`` of them.

    From differences of neighbours, so steps and slow drifts of the past do not count as noise: the larger of two
    robust scales (median and 85 % quantile of |d|, as for a normal law), over sqrt 2 since a difference has two runs.
    Differences across sessions are among them, on purpose: the verdict compares sessions.
    """
    values = np.asarray(logs, dtype=np.float64)
    if values.size < MIN_HISTORY:
        return None
    steps = np.abs(np.diff(values))
    scale = max(MAD_TO_SD * float(np.median(steps)), float(np.quantile(steps, 0.85)) / float(stats.norm.ppf(0.925)))
    return max(MIN_RUN_SD, scale / float(np.sqrt(2)))


def unequal_spread(a: NDArray[np.float64], b: NDArray[np.float64], floor: float) -> bool:
    """Return whether two arms' robust variances differ by more than chance (F test of MAD², both directions)."""
    if min(a.size, b.size) < 3:
        return False
    scale_a, scale_b = (max(floor, float(robust_scale(centred(arm), fitted=1)[0])) for arm in (a, b))
    ratio = (scale_b / scale_a) ** 2
    return bool(
        ratio > stats.f.ppf(SPREAD_LEVEL, b.size - 1, a.size - 1)
        or 1 / ratio > stats.f.ppf(SPREAD_LEVEL, a.size - 1, b.size - 1)
    )


def pooled_variance(arms: Sequence[NDArray[np.float64]], prior_sd: float) -> float | None:
    """Return the pooled, winsorised variance of the arms; ``None`` when no arm has two runs.

    Deviations are cut at 2.5 times the larger of prior and own robust scale, so one disturbed run does not decide;
    the factor 1.1 makes up for the cut, and errs to the wide side where nothing is cut.
    """
    deviations = np.concatenate([centred(arm) for arm in arms])
    df = sum(arm.size - 1 for arm in arms)
    if df == 0:
        return None
    limit = 2.5 * max(prior_sd, float(robust_scale(deviations, fitted=len(arms))[0]))
    cut = [np.clip(centred(arm), -limit, limit) for arm in arms]
    return 1.1 * float(sum(((arm - arm.mean()) ** 2).sum() for arm in cut)) / df


def moderated_sd(arms: Sequence[NDArray[np.float64]], prior_sd: float) -> tuple[float, float] | None:
    """Return sd and degrees of freedom after shrinking the arms' variance to the history's; ``None``: it is refuted.

    An empirical-Bayes variance (G. K. Smyth, "Linear models and empirical Bayes methods", 2004) whose prior is the
    series' own past: ``(d0 s0² + v s²) / (d0 + v)`` with ``d0 + v`` degrees of freedom. When ``s²/s0²`` exceeds the F
    distribution's ``GUARD_LEVEL`` the machine is noisier than its history, and the history must not vouch for it.
    """
    own = pooled_variance(arms, prior_sd)
    df = float(sum(arm.size - 1 for arm in arms))
    if own is None:
        return prior_sd, PRIOR_DF
    if own / prior_sd**2 > stats.f.ppf(GUARD_LEVEL, df, PRIOR_DF):
        return None
    return float(np.sqrt((PRIOR_DF * prior_sd**2 + df * own) / (PRIOR_DF + df))), PRIOR_DF + df
