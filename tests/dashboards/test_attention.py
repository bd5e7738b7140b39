"""What to look at, and the five limits."""

from __future__ import annotations

import json

from enginewatch_dashboards.attention import LIMITS, items, limit_lines
from enginewatch_db.model import Severity


def finding(severity="warning", kind="validity", **changes):
    row = {
        "severity": severity, "kind": kind, "title": "t", "remedy": None, "case_key": None, "metric": None,
        "run_id": None, "state": None, "evidence": "{}", "detector": "d",
    }  # fmt: skip
    return row | changes


def limit(name, state, case="c", **evidence):
    return finding(
        "info", "threshold", detector=f"limit.{name}", title=f"{case}: {state}", case_key=case,
        evidence=json.dumps({"state": state, **evidence}),
    )  # fmt: skip


CASE = {"case_key": "c", "n_failed": 1, "failed_run": "r1", "failure_message": "broke", "failure_remedy": "fix it"}


def test_failed_cases_come_first_with_their_run():
    found = items([finding("warning")], [CASE])
    assert [item.severity for item in found] == [Severity.CRITICAL, Severity.WARNING]
    assert (found[0].run_id, found[0].remedy) == ("r1", "fix it")
    assert "broke" in found[0].title


def test_a_failure_that_a_finding_names_is_listed_once():
    found = items([finding("critical", "comparison", case_key="c", title="c failed")], [CASE])
    assert [(item.title, item.run_id) for item in found] == [("c failed", "r1")]


def test_information_is_shown_only_where_it_explains():
    shown = items(
        [finding("info", "comparison"), finding("info", "bottleneck"), limit("sm_active_pct", "breached")], []
    )
    assert [item.severity for item in shown] == [Severity.INFO]


def test_closed_findings_are_gone():
    assert items([finding("critical", state="closed")], []) == []


def test_without_findings_every_limit_waits():
    lines = limit_lines([])
    assert [line.state for line in lines] == [None] * 5
    assert lines[0].name == "p99 latency below 200 ms"
    assert len(lines) == len(LIMITS)


def test_a_limit_shows_its_most_urgent_state_and_counts_all():
    lines = limit_lines(
        [limit("latency_p99_ms", "met", "a", limit_ms=150), limit("latency_p99_ms", "breached", "b", limit_ms=150),
         limit("sm_active_pct", "not_evaluable"), limit("sm_active_pct", "met", "z")]
    )  # fmt: skip
    assert (lines[0].name, lines[0].state, lines[0].told) == ("p99 latency below 150 ms", "breached", "b: breached")
    assert lines[0].counts == {"met": 1, "breached": 1}
    assert lines[2].state == "not_evaluable"


def test_an_unknown_limit_is_shown_as_it_is():
    assert limit_lines([limit("new_limit", "met")])[-1].name == "new_limit"
