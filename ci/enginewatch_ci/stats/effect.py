"""The effect between two arms, from one value per run.

The unit of replication is the run: raw samples of one run share its clocks, its memory layout and its neighbours, and
pooling them across runs gave 16 to 91 % false alarms at a nominal 1 %. All is done on logarithms, so effects are
relative, +10 % and its way back have the same size, and units drop out.

Which method, and why (coverage of nominal 95 % intervals, simulated with run sd 2 %, normal / Student-3 / one run in
ten slow by 3 to 10 sd; ``benchmarks/gate_statistics.py`` shows false alarms and power):

============  ==========================================  ===================================================
method        when                                        measured
============  ==========================================  ===================================================
moderated-t   an arm of up to 4 runs, 8 or more earlier   0.97-0.99; at 3 runs the chance to find +10 % rises from
              runs of the series that the runs do not     0.51 to 0.64 (normal), at 2 runs from 0.16 to 0.43; from
              contradict: borrows their variance          5 runs on it gains nothing and loses under outliers
bootstrap-t   else, with 3 or more runs in each arm and   0.95-0.98 at 3, 5 and 10 runs in all three noises, down to
              equal spread                                0.6 times the width of Welch's under outliers
welch-t       2 runs in an arm, or unequal spread         0.92-0.94 where spreads differ by three (0.90 without it)
yuen-t        the same from 8 runs on: trimmed by 20 %    one run in twelve at +40 % leaves the interval as it was
============  ==========================================  ===================================================

All have a floor: no run-to-run sd below what the runs' own intervals allow, nor below 0.1 %, so that three runs
that agree by accident give no false certainty.

A plain (unsmoothed) bootstrap-t was tried and dropped: with Huber's location its intervals at 3 to 5 runs are two to
eight times too wide; with the mean it adds nothing to Welch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enginewatch_ci.stats.bootstrap import (
    RESAMPLES,
    Bootstrapped,
    Null,
    Student,
    seed_of,
    studentised_null,
    two_sample_huber,
)
from enginewatch_ci.stats.location import centred, huber, robust_scale
from enginewatch_ci.stats.noise import floor_sd, moderated_sd, unequal_spread

MODERATED_C = 2.0
"""Huber's constant where the scale is known from history: a wider one costs nothing there."""

BOOTSTRAP_MIN_RUNS = 3
TRIM_SHARE = 0.2
"""Share of an arm cut off at each end; Yuen's and Wilcox's usual choice."""

TRIM_MIN_RUNS = 8
"""Below it too few runs would be left, and Student's quantiles would cost more than an outlier does."""

MODERATED_MAX_RUNS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One arm's runs of one case and metric.

    Attributes:
        logs: Natural logarithm of one value per run, shape (n,), finite.
        within_sd: Within-run sd of each in log units; ``None`` where a run has no interval.
        key: What these data are (their run ids): seeds the bootstrap.
    """

    logs: NDArray[np.float64]
    within_sd: Sequence[float | None] = ()
    key: str = ""

    @property
    def n(self) -> int:
        """How many runs."""
        return int(self.logs.size)

    @property
    def floor(self) -> float:
        """Smallest run-to-run sd that these runs can have, in log units."""
        return floor_sd(self.within_sd)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogEffect:
    """The estimated change from baseline to candidate, in log units.

    Attributes:
        shift: log(candidate) - log(baseline).
        se: Its standard error.
        null: Law of ``(estimate - truth) / se``.
        method: ``moderated-t``, ``bootstrap-t``, ``welch-t`` or ``yuen-t``.
        baseline: Log location of the baseline's runs.
        candidate: Log location of the candidate's runs.
        n_baseline: Runs behind the baseline.
        n_candidate: Runs behind the candidate.
    """

    shift: float
    se: float
    null: Null
    method: str
    baseline: float
    candidate: float
    n_baseline: int
    n_candidate: int

    def half_width(self, confidence: float) -> float:
        """Return half the width of the two-sided interval."""
        return self.null.critical(confidence) * self.se

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval of ``shift``; it always contains ``shift``."""
        half = self.half_width(confidence)
        return self.shift - half, self.shift + half

    def p_above(self, limit: float) -> float:
        """Return the one-sided p-value of "the true shift is at most ``limit``"."""
        t = (self.shift - limit) / self.se
        tail = self.null.two_sided(t) / 2
        return tail if t > 0 else 1 - tail

    def p_below(self, limit: float) -> float:
        """Return the one-sided p-value of "the true shift is at least ``limit``"."""
        t = (self.shift - limit) / self.se
        tail = self.null.two_sided(t) / 2
        return tail if t < 0 else 1 - tail


def estimate_effect(
    baseline: Sample, candidate: Sample, *, prior_sd: float | None = None, resamples: int = RESAMPLES
) -> LogEffect | None:
    """Estimate the change from baseline to candidate, or return ``None`` where no spread is known.

    Args:
        baseline: Runs to compare to.
        candidate: Runs to judge.
        prior_sd: Run-to-run sd in log units from the series' history (``noise.history_sd``), if there is one.
        resamples: Size of the bootstrap.
    """
    if prior_sd is not None and min(baseline.n, candidate.n) <= MODERATED_MAX_RUNS:
        found = _moderated(baseline, candidate, max(prior_sd, baseline.floor, candidate.floor))
        if found is not None:
            return found
    if min(baseline.n, candidate.n) < 2:
        return None
    floor = max(baseline.floor, candidate.floor)
    few = min(baseline.n, candidate.n) < BOOTSTRAP_MIN_RUNS
    if few or unequal_spread(baseline.logs, candidate.logs, floor):
        return _welch(baseline, candidate)
    return _bootstrap_t(baseline, candidate, resamples)


def _effect(
    baseline: Sample, candidate: Sample, locations: tuple[float, float], variance: float, null: Null, method: str
) -> LogEffect:
    return LogEffect(
        shift=locations[1] - locations[0],
        se=float(np.sqrt(variance)),
        null=null,
        method=method,
        baseline=locations[0],
        candidate=locations[1],
        n_baseline=baseline.n,
        n_candidate=candidate.n,
    )


def _welch(baseline: Sample, candidate: Sample) -> LogEffect:
    """Welch's t on log values with floored variances (B. L. Welch, Biometrika 34, 1947).

    From ``TRIM_MIN_RUNS`` runs on, an arm enters with its trimmed mean and winsorised variance (K. K. Yuen,
    Biometrika 61, 1974): one disturbed run must not move the mean and blow up the interval of eleven good ones.
    """
    arms = [_trimmed(arm) for arm in (baseline, candidate)]
    parts = [part for _, part, _ in arms]
    df = sum(parts) ** 2 / sum(part**2 / (kept - 1) for _, part, kept in arms)
    trimmed = max(baseline.n, candidate.n) >= TRIM_MIN_RUNS
    return _effect(
        baseline, candidate, (arms[0][0], arms[1][0]), sum(parts), Student(df=df), "yuen-t" if trimmed else "welch-t"
    )


def _trimmed(arm: Sample) -> tuple[float, float, int]:
    """Return an arm's trimmed mean, the squared standard error of it, and how many runs are left in it."""
    n = arm.n
    cut = int(TRIM_SHARE * n) if n >= TRIM_MIN_RUNS else 0
    ordered = np.sort(arm.logs)
    kept = ordered[cut : n - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    variance = max(float(winsorised.var(ddof=1)), arm.floor**2)
    return float(kept.mean()), (n - 1) * variance / (kept.size * (kept.size - 1)), kept.size


def _bootstrap_t(baseline: Sample, candidate: Sample, resamples: int) -> LogEffect:
    floors = (baseline.floor, candidate.floor)
    # Two arms with the same key hold the same data: drawing both from one stream would make every |t| zero.
    twin = " twin" if baseline.key == candidate.key else ""
    ordered = studentised_null(
        baseline.logs,
        candidate.logs,
        floors=floors,
        seeds=(seed_of(baseline.key), seed_of(candidate.key + twin)),
        resamples=resamples,
    )
    null = Bootstrapped(ordered=ordered, student=Student(df=baseline.n + candidate.n - 2))
    location_b, location_c, variance_b, variance_c = two_sample_huber(baseline.logs, candidate.logs, *floors)
    locations = (float(location_b), float(location_c))
    return _effect(baseline, candidate, locations, float(variance_b + variance_c), null, "bootstrap-t")


def _moderated(baseline: Sample, candidate: Sample, prior_sd: float) -> LogEffect | None:
    shrunk = moderated_sd((baseline.logs, candidate.logs), prior_sd)
    if shrunk is None:
        return None
    sd, df = shrunk
    parts = [_located(arm.logs, sd) for arm in (baseline, candidate)]
    locations = (parts[0][0], parts[1][0])
    return _effect(baseline, candidate, locations, parts[0][1] + parts[1][1], Student(df=df), "moderated-t")


def _located(logs: NDArray[np.float64], sd: float) -> tuple[float, float]:
    """Return Huber's location at a known sd, and its variance; outliers cost information, not direction."""
    if logs.size == 1:
        return float(logs[0]), sd**2
    location, _ = huber(logs, np.array([sd]), MODERATED_C)
    share = max(0.5, float((np.abs(logs - location) <= MODERATED_C * sd).mean()))
    return float(location), sd**2 / logs.size / share**2


def one_sample(sample: Sample, confidence: float) -> tuple[float, float | None, float | None]:
    """Return the log location of one arm and its interval; the ends are ``None`` where no spread is known.

    One run has only its own interval, which speaks of that run alone: its ends are used as the best there is.
    """
    if sample.n == 1:
        known = [sd for sd in sample.within_sd if sd is not None]
        value = float(sample.logs[0])
        half = known[0] * 1.959964 if known else None
        return value, None if half is None else value - half, None if half is None else value + half
    scale = np.maximum(robust_scale(centred(sample.logs), fitted=1), sample.floor)
    location, variance = huber(sample.logs, scale)
    se = float(np.sqrt(max(float(variance), sample.floor**2 / sample.n)))
    half = Student(df=sample.n - 1).critical(confidence) * se
    return float(location), float(location) - half, float(location) + half
