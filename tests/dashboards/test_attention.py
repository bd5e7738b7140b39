"""What to look at, and the five limits."""

from __future__ import annotations

import json

from enginewatch_ci.policy import Limits
from enginewatch_dashboards.attention import LIMITS, collapsed, items, limit_lines
from enginewatch_dashboards.reasons import Cause
from enginewatch_db.model import Severity
from enginewatch_db.validity import REASONS


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
    assert [(item.severity, item.title) for item in shown] == [(Severity.INFO, "t"), (Severity.INFO, "c: breached")]


def test_a_breached_limit_is_one_line_and_a_warning_keeps_its_own():
    rows = [limit("tensor_active_pct", "breached", case) for case in "abc"] + [limit("tensor_active_pct", "met", "d")]
    assert [item.title for item in items(rows, [])] == ["a: breached (and 2 more cases of 4)"]
    assert [item.title for item in items([limit("sm_active_pct", "met"), limit("x", "not_evaluable")], [])] == []
    warned = items([limit("latency_p99_ms", "breached") | {"severity": "warning"}], [])
    assert [(item.severity, item.title) for item in warned] == [(Severity.WARNING, "c: breached")]
    assert items([limit("sm_active_pct", "breached") | {"state": "closed"}], []) == []


def test_what_spoils_many_runs_is_listed_with_its_remedy():
    (item,) = items([], [], [Cause(code="host_busy", n=5, total=6)])
    assert item.title.startswith("host_busy marks 5 of 6 runs: ")
    assert item.remedy == REASONS["host_busy"].remedy


def test_closed_findings_are_gone():
    assert items([finding("critical", state="closed")], []) == []


def test_without_findings_every_limit_waits():
    lines = limit_lines([])
    assert [line.state for line in lines] == [None] * len(LIMITS)
    policy = Limits()
    assert lines[0].name == f"p99 latency below {policy.latency_p99_ms:g} ms"
    assert f"above {policy.tensor_active_pct:g} %" in lines[4].name
    assert len(lines) == len(LIMITS)


def test_a_limit_shows_its_most_urgent_state_and_counts_all():
    lines = limit_lines(
        [limit("latency_p99_ms", "met", "a", limit_ms=150), limit("latency_p99_ms", "breached", "b", limit_ms=150),
         limit("sm_active_pct", "not_evaluable"), limit("sm_active_pct", "met", "z")]
    )  # fmt: skip
    assert (lines[0].name, lines[0].state, lines[0].told) == ("p99 latency below 150 ms", "breached", "b: breached")
    assert lines[0].counts == {"met": 1, "breached": 1}
    assert lines[2].state == "not_evaluable"


def test_limits_that_share_why_they_cannot_be_evaluated_are_one_line():
    names = ("sm_active_pct", "dram_bw_max_pct", "tensor_active_pct")
    cpu = [limit(name, "not_evaluable", reason="it runs on a CPU") for name in names]
    other = limit("tokens_vs_baseline", "not_evaluable", reason="nothing to compare with")
    lines = collapsed(limit_lines([*cpu, other, limit("latency_p99_ms", "met"), limit("accuracy", "met")]))
    assert [line.state for line in lines] == ["met", "not_evaluable", "met", "not_evaluable"]
    assert lines[1].told == "c: not_evaluable"
    assert (lines[3].told, lines[3].name.count("; ")) == ("it runs on a CPU", 2)
    mixed = limit_lines([*cpu, limit("sm_active_pct", "met", "z")])
    assert len(collapsed(mixed)) == len(mixed) - 1


def test_an_unknown_limit_is_shown_as_it_is():
    assert limit_lines([limit("new_limit", "met")])[-1].name == "new_limit"
