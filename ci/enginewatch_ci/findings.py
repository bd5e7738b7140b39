"""From a decision to findings: what is worth an entry of its own beside the table of verdicts. Pure."""

from __future__ import annotations

from dataclasses import asdict

from enginewatch_ci import phrasing
from enginewatch_ci.decide import Decision
from enginewatch_ci.facts import Arm
from enginewatch_db.model import Comparison, Finding, FindingKind, Severity, Verdict

HOST_WORTH_TELLING = 0.01
"""A host that moved by less than 1 % explains nothing that a 5 % threshold could see."""

_SEVERITY = {
    Verdict.FAILED: Severity.CRITICAL,
    Verdict.REGRESSED: Severity.CRITICAL,
    Verdict.IMPROVED: Severity.INFO,
}


def findings_of(decision: Decision, candidate: Arm) -> tuple[Finding, ...]:
    """Return findings for failures, regressions, improvements, a host that moved, a cohort and uncovered cases."""
    session_id = candidate.newest.session_id
    found = [_of_comparison(item, session_id) for item in decision.comparisons if item.verdict in _SEVERITY]
    host = decision.host
    if host is not None and host.moved and abs(host.rel) >= HOST_WORTH_TELLING:
        found.append(
            Finding(
                kind=FindingKind.VALIDITY,
                severity=Severity.WARNING,
                title=f"the host itself moved by {host.text} between the sessions",
                session_id=session_id,
                detector="gate.host",
                metric="host_sentinel_ms",
                value=host.rel,
                evidence=asdict(host),
                remedy="measure both sides again, interleaved on one host",
                confidence="high",
            )
        )
    if decision.cohort is not None:
        found.append(
            Finding(
                kind=FindingKind.COMPARISON,
                severity=Severity.WARNING,
                title=decision.cohort.text,
                session_id=session_id,
                detector="gate.cohort",
                value=decision.cohort.median_rel,
                evidence=asdict(decision.cohort),
                remedy="compare the environments; rerun the baseline on this host",
                confidence="medium",
            )
        )
    if decision.uncovered:
        found.append(
            Finding(
                kind=FindingKind.VALIDITY,
                severity=Severity.WARNING,
                title=f"{phrasing.count(len(decision.uncovered), 'case')} of the baseline could not be judged: "
                + phrasing.listed(decision.uncovered),
                session_id=session_id,
                detector="gate.coverage",
                evidence={"cases": list(decision.uncovered)},
                remedy="measure them, or accept a baseline without them with `enginewatch accept`",
            )
        )
    return tuple(found)


def _of_comparison(item: Comparison, session_id: str) -> Finding:
    effect = item.effect
    failed = item.verdict is Verdict.FAILED
    told = item.why if failed or effect is None else phrasing.effect(effect)
    return Finding(
        kind=FindingKind.COMPARISON,
        severity=_SEVERITY[item.verdict],
        title=f"{item.case_key} {item.verdict.value}: {told}"
        if failed
        else f"{phrasing.name(item)} {item.verdict.value}: {told}",
        session_id=session_id,
        detector="gate",
        case_key=item.case_key,
        metric=item.metric,
        value=effect.rel if effect else None,
        evidence={"why": item.why, "effect": asdict(effect) if effect else None, "notes": list(item.notes)},
        remedy="compare the two sessions" if item.verdict is Verdict.REGRESSED else None,
    )
