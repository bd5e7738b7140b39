"""From two arms to verdicts: the one code path of gate, judge and dashboard. Pure.

The order of the rules is the order of what a person must know first: a case that fails now; a case that cannot be
compared; then the numbers, against a practical threshold: the interval wholly beyond it is ``regressed`` or
``improved``, wholly inside ``unchanged``, anything else ``inconclusive``. Two things can take back a ``regressed`` or
``improved``, never silently: among many comparisons it may be chance, and the host itself may have moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from enginewatch_ci import phrasing, why
from enginewatch_ci.comparable import Unpaired, pair_cases
from enginewatch_ci.facts import Arm, History, is_cpu
from enginewatch_ci.host import Cohort, HostShift, cohort, contested, host_shift, normalised
from enginewatch_ci.measure import Row, measure
from enginewatch_ci.policy import Policy
from enginewatch_ci.stats import survivors
from enginewatch_db.model import SEVERITY, Comparison, Verdict

DEFAULT_METRIC = "latency_p50_ms"
DEFAULT_SERVER_METRIC = "ttft_p50_ms"
"""Of a case without any value: what it would have been judged by first."""

HOST = "host"
"""Cause: the host's own change explains what was seen."""

CHANCE = "chance"
"""Cause: among so many comparisons it may be chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the comparison of two arms says.

    Attributes:
        comparisons: Worst first, then by case and metric.
        host: How the host itself moved; ``None`` where it was not measured.
        cohort: Whether most cases moved together.
        uncovered: Cases with a valid run in the baseline that got no comparison; new failures are none of them.
    """

    comparisons: tuple[Comparison, ...]
    host: HostShift | None
    cohort: Cohort | None
    uncovered: tuple[str, ...]


def decide(baseline: Arm, candidate: Arm, policy: Policy, history: History | None = None) -> Decision:
    """Compare every case of two arms.

    Args:
        baseline: Runs to compare to.
        candidate: Runs to judge.
        policy: Thresholds and rules.
        history: Values of earlier runs per series and metric, for the variance of small arms.
    """
    pairs, unpaired = pair_cases(baseline, candidate)
    rows = measure(pairs, policy, history or {})
    confidence = policy.gate.confidence
    host = host_shift(pairs, confidence)
    together = cohort(_slowdowns(rows, confidence))
    # One-sided tests beside a two-sided interval: alone each has half of this, so the share is what it bounds.
    level = 1 - confidence
    corrected = policy.gate.correction == "bh"
    worse = survivors([row.p_worse for row in rows], level) if corrected else (True,) * len(rows)
    better = survivors([row.p_better for row in rows], level) if corrected else (True,) * len(rows)
    comparisons = [_refused(item, (baseline, candidate), policy) for item in unpaired]
    for row, is_worse, is_better in zip(rows, worse, better, strict=True):
        family = _Family(size=len(rows), worse_holds=is_worse, better_holds=is_better)
        comparisons.append(_compare(row, policy, host, together, family))
    return Decision(
        comparisons=worst_first(comparisons),
        host=host,
        cohort=together,
        uncovered=tuple(item.case_key for item in unpaired if item.in_baseline and item.verdict is not Verdict.FAILED),
    )


def worst_first(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Return comparisons by how much attention they need, then by case and metric."""
    return tuple(sorted(comparisons, key=lambda item: (SEVERITY.index(item.verdict), item.case_key, item.metric)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    size: int
    worse_holds: bool
    better_holds: bool


def _slowdowns(rows: list[Row], confidence: float) -> list[tuple[float, float]]:
    """Return change of time and half width of the first metric of each case."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.effect is not None:
            first.setdefault((row.pair.case_key, row.pair.series_id), row)
    return [(row.slowdown(), row.effect.half_width(confidence)) for row in first.values() if row.effect]


def _refused(item: Unpaired, arms: tuple[Arm, Arm], policy: Policy) -> Comparison:
    # A new case has runs in the candidate alone; the metric tells what kind of case it is.
    runs = [run for arm in arms for run in arm.of_case(item.case_key)]
    known = {metric for run in runs for metric in run.metrics}
    default = DEFAULT_SERVER_METRIC if any(run.is_server for run in runs) else DEFAULT_METRIC
    metric = next((metric for metric in policy.gated_metrics() if metric in known), default)
    return Comparison(
        case_key=item.case_key,
        series_id=item.series_id,
        metric=metric,
        verdict=item.verdict,
        why=item.why,
        threshold_rel=policy.threshold_rel(metric),
        cause=item.cause,
    )


def _compare(row: Row, policy: Policy, host: HostShift | None, together: Cohort | None, family: _Family) -> Comparison:
    confidence = policy.gate.confidence
    verdict, sentence, cause, notes = _judge_row(row, confidence, host, family)
    if together is not None:
        notes.append(together.text)
    return Comparison(
        case_key=row.pair.case_key,
        series_id=row.pair.series_id,
        metric=row.metric,
        verdict=verdict,
        why=sentence,
        threshold_rel=row.threshold_rel,
        baseline_value=row.baseline_value,
        candidate_value=row.candidate_value,
        effect=row.public(confidence),
        cause=cause,
        notes=(*notes, *row.pair.notes),
    )


def _judge_row(
    row: Row, confidence: float, host: HostShift | None, family: _Family
) -> tuple[Verdict, str, str | None, list[str]]:
    if row.effect is None:
        verdict = Verdict.NOT_COMPARABLE if row.absent else Verdict.INCONCLUSIVE
        return verdict, why.no_effect(row), None, []
    low, high = row.effect.interval(confidence)
    verdict = classify(low, high, row.limits, higher_is_better=row.higher_is_better)
    sentence = why.judged(row, verdict, confidence)
    if (verdict is Verdict.REGRESSED and not family.worse_holds) or (
        verdict is Verdict.IMPROVED and not family.better_holds
    ):
        return (
            Verdict.INCONCLUSIVE,
            why.chance(row, confidence, family.size),
            CHANCE,
            _host_notes(row, host, confidence),
        )
    notes = _host_notes(row, host, confidence)
    if verdict not in (Verdict.REGRESSED, Verdict.IMPROVED) or not _on_cpu(row):
        return verdict, sentence, None, notes
    crowd = contested(row.pair, row.metric)
    if crowd is not None:
        return Verdict.INCONCLUSIVE, why.crowded(row, crowd, confidence), HOST, notes
    if host is not None and host.tells(row.threshold_rel):
        left = normalised(row.effect, host, confidence, faster_is_more=row.higher_is_better)
        if classify(*left, row.limits, higher_is_better=row.higher_is_better) is not verdict:
            return Verdict.INCONCLUSIVE, why.host_moved(row, host, left, confidence), HOST, notes
    return verdict, sentence, None, notes


def classify(low: float, high: float, limits: tuple[float, float], *, higher_is_better: bool) -> Verdict:
    """Return the verdict of an interval against a practical threshold, all in log units.

    Args:
        low: Lower end of the interval of the change.
        high: Upper end.
        limits: The threshold below and above zero.
        higher_is_better: Direction of the metric.
    """
    if low > limits[1]:
        return Verdict.IMPROVED if higher_is_better else Verdict.REGRESSED
    if high < limits[0]:
        return Verdict.REGRESSED if higher_is_better else Verdict.IMPROVED
    return Verdict.UNCHANGED if limits[0] <= low and high <= limits[1] else Verdict.INCONCLUSIVE


def _on_cpu(row: Row) -> bool:
    return is_cpu(str(row.pair.candidate[0].identity.get("device", "")))


def _host_notes(row: Row, host: HostShift | None, confidence: float) -> list[str]:
    """Say what the host did: both numbers where it takes part in the verdict."""
    if row.effect is None:
        return []
    if host is None:
        if not _on_cpu(row):
            return []
        return ["no host sentinel in these runs: a change of the host cannot be told from one of the code"]
    if not _on_cpu(row):
        return [f"the host moved by {host.text}; not taken out, this case runs on a GPU"] if host.moved else []
    if not host.tells(row.threshold_rel):
        return [f"the host sentinel is too noisy to say whether the host moved ({host.text}); judged without it"]
    left = normalised(row.effect, host, confidence, faster_is_more=row.higher_is_better)
    low, high = row.effect.interval(confidence)
    raw = f"{phrasing.percent(float(np.expm1(row.effect.shift)))} {_interval(low, high)}"
    rest = f"{phrasing.percent(float(np.expm1(sum(left) / 2)))} {_interval(*left)}"
    return [f"raw {raw}; host sentinel {host.text}; with the host's change taken out {rest}"]


def _interval(low: float, high: float) -> str:
    return phrasing.interval(float(np.expm1(low)), float(np.expm1(high)))
