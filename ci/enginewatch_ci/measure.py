"""From runs to effects: one row per case and metric, with the p-values that the family needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enginewatch_ci.comparable import CasePair
from enginewatch_ci.facts import History, RunFacts
from enginewatch_ci.policy import Policy
from enginewatch_ci.stats import LogEffect, Sample, estimate_effect, history_sd
from enginewatch_ci.stats.noise import within_sd
from enginewatch_db.metrics import METRICS, Direction
from enginewatch_db.model import Effect

LOG_METRICS = frozenset({"latency_tail_log_ratio"})
"""Metrics that are logarithms already: their difference is a relative change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case and metric with its effect.

    Attributes:
        pair: The runs.
        metric: A key of ``METRICS``.
        threshold_rel: Practical threshold (0.05 is 5 %).
        baseline_value: Location of the baseline's runs in the metric's unit; ``None`` where it has no value.
        candidate_value: The same of the candidate.
        effect: ``None`` where it could not be estimated.
        problem: Why not.
        absent: Whether a side has no value at all.
    """

    pair: CasePair
    metric: str
    threshold_rel: float
    baseline_value: float | None = None
    candidate_value: float | None = None
    effect: LogEffect | None = None
    problem: str | None = None
    absent: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return METRICS[self.metric].direction is Direction.HIGHER

    @property
    def limits(self) -> tuple[float, float]:
        """The practical threshold on both sides, in log units."""
        return float(np.log1p(-self.threshold_rel)), float(np.log1p(self.threshold_rel))

    @property
    def p_worse(self) -> float:
        """One-sided p-value of "not worse by more than the threshold"; 1 without an effect."""
        if self.effect is None:
            return 1.0
        low, high = self.limits
        return self.effect.p_below(low) if self.higher_is_better else self.effect.p_above(high)

    @property
    def p_better(self) -> float:
        """One-sided p-value of "not better by more than the threshold"; 1 without an effect."""
        if self.effect is None:
            return 1.0
        low, high = self.limits
        return self.effect.p_above(high) if self.higher_is_better else self.effect.p_below(low)

    def slowdown(self) -> float:
        """Return the change of time in log units: throughput counts backwards."""
        shift = self.effect.shift if self.effect else 0.0
        return -shift if self.higher_is_better else shift

    def public(self, confidence: float) -> Effect | None:
        """Return the effect as it is stored: relative, with its interval."""
        if self.effect is None:
            return None
        low, high = self.effect.interval(confidence)
        return Effect(
            rel=float(np.expm1(self.effect.shift)),
            ci_low=float(np.expm1(low)),
            ci_high=float(np.expm1(high)),
            confidence=confidence,
            n_baseline=self.effect.n_baseline,
            n_candidate=self.effect.n_candidate,
            method=self.effect.method,
        )


def measure(pairs: Sequence[CasePair], policy: Policy, history: History) -> list[Row]:
    """Return a row for every pair and every gated metric that at least one side has a value of."""
    return [
        _row(pair, metric, policy.threshold_rel(metric), history)
        for pair in pairs
        for metric in policy.gated_metrics()
        if any(run.value(metric) is not None for run in (*pair.baseline, *pair.candidate))
    ]


def _row(pair: CasePair, metric: str, threshold_rel: float, history: History) -> Row:
    base = Row(pair=pair, metric=metric, threshold_rel=threshold_rel)
    for arm, runs in (("baseline", pair.baseline), ("candidate", pair.candidate)):
        if all(run.value(metric) is None for run in runs):
            return _problem(base, f"the {arm} has no {metric}: {_absent_reason(runs, metric)}", absent=True)
    samples = [_sample(runs, metric) for runs in (pair.baseline, pair.candidate)]
    if samples[0] is None or samples[1] is None:
        return _problem(base, f"{metric} has values of zero or below, of which there is no relative change")
    prior = _prior(history.get((pair.series_id, metric), ()), metric)
    effect = estimate_effect(samples[0], samples[1], prior_sd=prior)
    centres = (effect.baseline, effect.candidate) if effect else tuple(float(np.median(s.logs)) for s in samples if s)
    values = centres if metric in LOG_METRICS else tuple(float(np.exp(centre)) for centre in centres)
    return Row(
        pair=pair,
        metric=metric,
        threshold_rel=threshold_rel,
        baseline_value=values[0],
        candidate_value=values[1],
        effect=effect,
        problem=None if effect else _single(samples[0].n, samples[1].n),
    )


def _single(baseline: int, candidate: int) -> str:
    which = (
        "one run a side" if baseline == candidate else f"one run in the {'baseline' if baseline == 1 else 'candidate'}"
    )
    return f"{which} has no run-to-run spread"


def _problem(row: Row, problem: str, *, absent: bool = False) -> Row:
    return Row(pair=row.pair, metric=row.metric, threshold_rel=row.threshold_rel, problem=problem, absent=absent)


def _absent_reason(runs: Sequence[RunFacts], metric: str) -> str:
    reasons = [run.metrics[metric].absent_reason for run in runs if metric in run.metrics]
    return next((reason for reason in reasons if reason), "it was not measured")


def _sample(runs: Sequence[RunFacts], metric: str) -> Sample | None:
    """Return the runs' values as logs, or ``None`` when one of them has no logarithm."""
    found = [(run.run_id, run.metrics[metric]) for run in runs if run.value(metric) is not None]
    values = np.array([value.value for _, value in found], dtype=np.float64)
    key = " ".join([metric, *(run_id for run_id, _ in found)])
    if metric in LOG_METRICS:
        return Sample(logs=values, key=key)
    if not (values > 0).all():
        return None
    within = [within_sd(value.ci_low, float(value.value or 0), value.ci_high) for _, value in found]
    return Sample(logs=np.log(values), within_sd=within, key=key)


def sample_of(runs: Sequence[RunFacts], metric: str) -> Sample | None:
    """Return the runs' values of a metric as logs; ``None`` where there is none or one has no logarithm."""
    known = [run for run in runs if run.value(metric) is not None]
    return _sample(known, metric) if known else None


def _prior(earlier: Sequence[float], metric: str) -> float | None:
    if metric in LOG_METRICS:
        return history_sd(earlier)
    return history_sd([float(np.log(value)) for value in earlier if value > 0])
