"""Accuracy beside speed: outputs against the fp32 reference, judged by the policy. Pure.

An engine beyond a limit is wrong, and its case is ``failed`` whatever its speed. One that is within the limits and
clearly less exact than the baseline's is ``regressed``. Both are facts of an engine, not of noise: the same inputs
give the same outputs but for the order of sums, so no interval is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from enginewatch_ci.facts import Arm, RunFacts
from enginewatch_ci.phrasing import listed, quantity
from enginewatch_ci.policy import AccuracyRules, Policy
from enginewatch_db.model import Comparison, Finding, FindingKind, Json, Severity, Verdict

CAUSE = "accuracy"
DISTANCE = "output_rel_l2"
COSINE = "output_cosine"
TOP1 = "output_top1_agreement_pct"
MEASURES = (DISTANCE, COSINE, TOP1, "output_max_abs")

WORSE_FLOOR = 0.1
"""A distance below this share of its limit is not called worse, by whatever factor it grew: rounding does that."""

_REMEDY = "check the calibration data, keep sensitive layers in a higher precision, or raise the limit in [accuracy]"

_NO_SPEED = frozenset({Verdict.IMPROVED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE})
"""Verdicts on the speed of a wrong engine that mean nothing; one that got slower besides is still slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyJudgement:
    """What the outputs say.

    Attributes:
        comparisons: One for each case that is wrong or got less exact.
        findings: One for each case with a value or a reason for its absence.
        wrong: Case key → what is wrong with it, in words.
    """

    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    wrong: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    metric: str
    limit: float
    at_least: bool

    def breached(self, value: float) -> bool:
        return value < self.limit if self.at_least else value > self.limit

    def words(self, value: float) -> str:
        sign = ">" if not self.at_least else "<"
        return f"{self.metric} {quantity(value, self.metric)} {sign} {self.limit:g}"


def judge_accuracy(baseline: Arm | None, candidate: Arm, policy: Policy) -> AccuracyJudgement:
    """Judge the outputs of every case of the candidate that has any accuracy metric.

    Args:
        baseline: What to compare to; ``None`` where there is none: then only the limits speak.
        candidate: What to judge.
        policy: The limits by precision.
    """
    comparisons: list[Comparison] = []
    findings: list[Finding] = []
    wrong: dict[str, str] = {}
    for case_key in sorted({run.case_key for run in candidate.runs}):
        runs = candidate.of_case(case_key)
        if not any(metric in run.metrics for run in runs for metric in MEASURES):
            continue
        before = baseline.of_case(case_key) if baseline else ()
        rules = policy.accuracy
        breached = _breaches(runs, rules)
        found = _worse(runs, before, rules) if not breached else None
        if breached:
            wrong[case_key] = f"the outputs are wrong: {listed(breached)} (limits for {_precision(runs)})"
            if rules.wrong == "fail":
                comparisons.append(_comparison(runs, before, Verdict.FAILED, wrong[case_key]))
        elif found is not None:
            comparisons.append(_comparison(runs, before, Verdict.REGRESSED, found))
        findings.append(_finding(case_key, runs, candidate, rules, breached))
    return AccuracyJudgement(comparisons=tuple(comparisons), findings=tuple(findings), wrong=wrong)


def without_speed(comparisons: Sequence[Comparison], wrong: dict[str, str]) -> tuple[Comparison, ...]:
    """Return the comparisons of speed with those of wrong engines taken back: being fast does not help them."""
    return tuple(
        replace(
            item,
            verdict=Verdict.NOT_COMPARABLE,
            why=f"{wrong[item.case_key]}, so its speed does not count; {item.why}",
            cause=CAUSE,
        )
        if item.case_key in wrong and item.verdict in _NO_SPEED
        else item
        for item in comparisons
    )


def _precision(runs: Sequence[RunFacts]) -> str:
    return str(runs[-1].identity.get("precision", "best"))


def _limits(runs: Sequence[RunFacts], rules: AccuracyRules) -> list[_Limit]:
    precision = _precision(runs)
    given = (
        (DISTANCE, rules.limit("rel_l2", precision), False),
        (COSINE, rules.limit("cosine_min", precision), True),
        (TOP1, rules.limit("top1_min_pct", precision), True),
    )
    return [
        _Limit(metric=metric, limit=limit, at_least=at_least) for metric, limit, at_least in given if limit is not None
    ]


def _worst(runs: Sequence[RunFacts], metric: str, *, at_least: bool) -> float | None:
    values = [value for run in runs if (value := run.value(metric)) is not None]
    return None if not values else min(values) if at_least else max(values)


def _breaches(runs: Sequence[RunFacts], rules: AccuracyRules) -> list[str]:
    told = []
    for limit in _limits(runs, rules):
        value = _worst(runs, limit.metric, at_least=limit.at_least)
        if value is not None and limit.breached(value):
            told.append(limit.words(value))
    return told


def _worse(runs: Sequence[RunFacts], before: Sequence[RunFacts], rules: AccuracyRules) -> str | None:
    """Say that the distance from fp32 grew by more than the policy's factor; ``None`` where it did not."""
    now, then = _worst(runs, DISTANCE, at_least=False), _worst(before, DISTANCE, at_least=False)
    limit = rules.limit("rel_l2", _precision(runs))
    if now is None or then is None or limit is None or now <= WORSE_FLOOR * limit:
        return None
    if then > 0 and now <= rules.worse_factor * then:
        return None
    return (
        f"{DISTANCE} rose from {quantity(then, DISTANCE)} to {quantity(now, DISTANCE)}, by more than the factor of "
        f"{rules.worse_factor:g} that matters; within its limit of {limit:g}"
    )


def _comparison(runs: Sequence[RunFacts], before: Sequence[RunFacts], verdict: Verdict, why: str) -> Comparison:
    return Comparison(
        case_key=runs[-1].case_key,
        series_id=runs[-1].series_id,
        metric=DISTANCE,
        verdict=verdict,
        why=why,
        threshold_rel=0.0,
        baseline_value=_worst(before, DISTANCE, at_least=False),
        candidate_value=_worst(runs, DISTANCE, at_least=False),
        cause=CAUSE,
    )


def _finding(
    case_key: str, runs: Sequence[RunFacts], candidate: Arm, rules: AccuracyRules, breached: Sequence[str]
) -> Finding:
    distance = _worst(runs, DISTANCE, at_least=False)
    precision = _precision(runs)
    evidence: Json = {"precision": precision}
    for limit in _limits(runs, rules):
        evidence[limit.metric] = _worst(runs, limit.metric, at_least=limit.at_least)
        evidence[f"limit_{limit.metric}"] = limit.limit
    if breached:
        state, title = "breached", f"outputs are wrong: {listed(breached)}"
    elif distance is None:
        state, title = "not_evaluable", f"accuracy is not evaluable: {_absent(runs)}"
    else:
        state, title = "met", f"outputs within {quantity(distance, DISTANCE)} of fp32 (relative L2)"
    critical = bool(breached) and rules.wrong == "fail"
    return Finding(
        kind=FindingKind.THRESHOLD,
        severity=Severity.CRITICAL if critical else Severity.WARNING if breached else Severity.INFO,
        title=f"{case_key}: {title}",
        session_id=candidate.newest.session_id,
        detector="limit.accuracy",
        case_key=case_key,
        metric=DISTANCE,
        value=distance,
        evidence={"state": state, "reason": title, **evidence},
        remedy=_REMEDY if breached else None,
        confidence="high" if distance is not None else None,
    )


def _absent(runs: Sequence[RunFacts]) -> str:
    reasons = [run.metrics[DISTANCE].absent_reason for run in runs if DISTANCE in run.metrics]
    # The first run of an engine is the one that was to be checked; later ones only point to it.
    return next((reason for reason in reasons if reason), "no run has it")
