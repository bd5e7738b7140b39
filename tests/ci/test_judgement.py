from __future__ import annotations

from dataclasses import replace

import pytest

from enginewatch_ci.exit_codes import exit_code
from enginewatch_ci.judgement import overall
from enginewatch_ci.policy import Policy, parse_policy
from enginewatch_db.errors import ExitCode
from enginewatch_db.model import Verdict

R, I, U = Verdict.REGRESSED, Verdict.IMPROVED, Verdict.UNCHANGED  # noqa: E741 (as in the table below)
Q, N, F = Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE, Verdict.FAILED


@pytest.fixture
def judgement(fixed, comparison):
    """Return a judgement with these verdicts and no breach."""

    def make(*verdicts, cause=None, **facts):
        items = tuple(comparison(f"case{n}", "latency_p50_ms", v, 0.01, cause=cause) for n, v in enumerate(verdicts))
        clean = {"comparisons": items, "findings": (), "uncovered": (), "verdict": overall(items)}
        return replace(fixed, **clean | facts)

    return make


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ((F, R, U), F),
        ((R, U, U, Q), R),
        ((I, U, U), I),
        ((U, U, Q), U),
        ((U, Q, Q), Q),
        ((Q,), Q),
        ((N, N), N),
        ((N, U), U),
        ((), None),
    ],
)
def test_the_verdict_of_the_whole(judgement, verdicts, whole):
    assert judgement(*verdicts).verdict is whole


def test_a_change_taken_back_makes_the_whole_inconclusive(judgement, comparison):
    one = judgement(U, U, U).comparisons
    host = comparison("slow", "latency_p50_ms", Q, 0.1, cause="host")
    assert overall((*one, host)) is Q


@pytest.mark.parametrize(
    ("verdicts", "gate", "code"),
    [
        ((U, U), {}, ExitCode.PASS),
        ((U, Q), {}, ExitCode.PASS),
        ((U, N), {}, ExitCode.PASS),
        ((I,), {}, ExitCode.PASS),
        ((U, R), {}, ExitCode.REGRESSION),
        ((F, R), {}, ExitCode.FAILED),
        ((Q, Q), {}, ExitCode.INCONCLUSIVE),
        ((Q, Q), {"inconclusive": "pass"}, ExitCode.INCONCLUSIVE),
        ((N,), {}, ExitCode.INCONCLUSIVE),
        ((U, Q), {"inconclusive": "fail"}, ExitCode.INCONCLUSIVE),
        ((U, R, Q), {"inconclusive": "fail"}, ExitCode.REGRESSION),
    ],
)
def test_exit_codes(judgement, verdicts, gate, code):
    assert exit_code(judgement(*verdicts), parse_policy({"gate": gate}, "t")) is code


def test_uncovered_cases_fail_only_where_coverage_is_required(judgement):
    found = judgement(U, uncovered=("gone",))
    assert exit_code(found) is ExitCode.PASS
    assert exit_code(found, parse_policy({"gate": {"coverage": "require"}}, "t")) is ExitCode.INCONCLUSIVE


def test_no_baseline(judgement):
    for found in (judgement(baseline=None), judgement(is_baseline=True)):
        assert exit_code(found) is ExitCode.INCONCLUSIVE
        assert exit_code(found, need_baseline=False) is ExitCode.PASS
        assert exit_code(found, parse_policy({"gate": {"no_baseline": "pass"}}, "t")) is ExitCode.PASS


def test_a_limit_fails_the_gate_only_by_policy(judgement, fixed):
    critical = fixed.findings[0]
    reported = replace(critical, severity="warning")
    assert exit_code(judgement(U, findings=(reported,))) is ExitCode.PASS
    assert exit_code(judgement(U, findings=(critical,))) is ExitCode.REGRESSION
    assert exit_code(judgement(baseline=None, findings=(critical,))) is ExitCode.REGRESSION


def test_the_judgements_own_policy_is_the_default(judgement):
    strict = judgement(U, Q, policy=parse_policy({"gate": {"inconclusive": "fail"}}, "t"))
    assert exit_code(strict) is ExitCode.INCONCLUSIVE
    assert exit_code(strict, Policy()) is ExitCode.PASS


def test_counts_are_worst_first(judgement):
    assert list(judgement(U, Q, F, R, U).counts.items()) == [(F, 1), (R, 1), (Q, 1), (U, 2)]
    assert judgement(U, Q, F, R, U).conclusive == 3
