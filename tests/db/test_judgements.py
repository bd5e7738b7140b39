"""Verdicts and findings are replaced together; baselines are appended."""

from __future__ import annotations

import pytest

from enginewatch_db.connect import Reader
from enginewatch_db.errors import UsageError
from enginewatch_db.judgements import accept, store
from enginewatch_db.model import Comparison, Effect, Finding, FindingKind, Severity, Verdict

SESSION = "01900000-0000-7000-8000-000000000002"
BASE = "01900000-0000-7000-8000-000000000001"


def comparison(verdict: Verdict) -> Comparison:
    effect = Effect(rel=0.1, ci_low=0.08, ci_high=0.12, confidence=0.95, n_baseline=5, n_candidate=5, method="t")
    return Comparison(
        case_key="a/b/c/b1",
        series_id=None,
        metric="latency_p50_ms",
        verdict=verdict,
        why="because",
        threshold_rel=0.05,
        effect=effect,
        notes=("one", "two"),
    )


def finding() -> Finding:
    return Finding(
        kind=FindingKind.THRESHOLD,
        severity=Severity.WARNING,
        title="p99 is over 200 ms",
        session_id=SESSION,
        detector="p99",
        evidence={"limit_ms": 200},
    )


def test_judging_again_replaces_and_keeps_finding_ids(workspace):
    store(workspace, SESSION, baseline_session=BASE, comparisons=[comparison(Verdict.REGRESSED)], findings=[finding()])
    with Reader.open(workspace) as reader:
        first = reader.console("SELECT finding_id FROM findings").to_pylist()
    store(workspace, SESSION, baseline_session=BASE, comparisons=[comparison(Verdict.UNCHANGED)], findings=[finding()])
    with Reader.open(workspace) as reader:
        rows = reader.console("SELECT verdict, effect_rel, notes FROM verdicts").to_pylist()
        assert rows == [{"verdict": "unchanged", "effect_rel": 0.1, "notes": ["one", "two"]}]
        assert reader.console("SELECT finding_id FROM findings").to_pylist() == first


def test_another_baseline_adds_its_own_verdicts(workspace):
    store(workspace, SESSION, baseline_session=BASE, comparisons=[comparison(Verdict.REGRESSED)], findings=[])
    store(workspace, SESSION, baseline_session=None, comparisons=[comparison(Verdict.UNCHANGED)], findings=[])
    with Reader.open(workspace) as reader:
        assert reader.console("SELECT * FROM verdicts").num_rows == 2


def test_a_baseline_is_appended_with_its_reason(workspace):
    accept(workspace, "plan", BASE, by="ada", reason="first")
    accept(workspace, "plan", SESSION, by=None, reason="new driver")
    with Reader.open(workspace) as reader:
        assert reader.console("SELECT reason FROM baselines ORDER BY accepted_at").column(0).to_pylist() == [
            "first",
            "new driver",
        ]
    with pytest.raises(UsageError, match="needs a reason"):
        accept(workspace, "plan", SESSION, by=None, reason="  ")
