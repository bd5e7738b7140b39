"""May one trust a run: each stored fact becomes a check, the worst first."""

from __future__ import annotations

import pytest

from enginewatch_dashboards.checklist import Grade, checklist, verdict_of
from enginewatch_db.validity import REASONS

RUN = {
    "status": "ok", "failure_message": None, "failure_remedy": None, "precision": "fp16", "realised_precision": "fp16",
    "git_dirty": False,
}  # fmt: skip
METRICS = [{"metric": "latency_p50_ms", "value": 2.0, "n": 4000}]
PHASES = [{"phase": "warmup", "start_s": 0.0, "end_s": 0.5}]
QUALITY = {"rate_hz": 10.0, "achieved_hz": 9.9, "ticks_made": 100, "late_ticks": 1, "gaps": 0, "max_gap_ms": 101.0}


def grades(run=RUN, metrics=METRICS, reasons=(), phases=PHASES, quality=QUALITY):
    return {check.title: check for check in checklist(run, metrics, list(reasons), phases, quality)}


def test_a_good_run_is_good_throughout():
    checks = grades()
    assert {check.grade for check in checks.values()} == {Grade.GOOD}
    assert verdict_of(list(checks.values()), valid=True) == "Yes"
    assert checks["Telemetry"].told == "9.90 Hz of 10.0 Hz asked for, 0 gaps, 1 of 100 ticks late, longest pause 101 ms"


@pytest.mark.parametrize(("n", "grade"), [(4000, Grade.GOOD), (1000, Grade.GOOD), (999, Grade.WARN), (19, Grade.BAD)])
def test_few_samples_are_said(n, grade):
    checks = grades(metrics=[METRICS[0] | {"n": n}])
    assert checks["Samples"].grade is grade


def test_every_validity_reason_has_a_line_with_its_remedy():
    for code, known in REASONS.items():
        (check, *_) = [
            check
            for check in checklist(
                RUN, METRICS, [{"code": code, "effect": known.effect, "detail": "3 %"}], PHASES, QUALITY
            )
            if code == "run_failed" or known.description in check.told
        ]
        if code != "run_failed":
            assert check.grade is (Grade.BAD if known.effect == "reject" else Grade.WARN)
            assert check.remedy == known.remedy
            assert "(3 %)" in check.told


def test_the_worst_comes_first():
    reasons = [
        {"code": "power_capped", "effect": "warn", "detail": ""},
        {"code": "client_bound", "effect": "reject", "detail": ""},
    ]
    found = checklist(RUN, METRICS, reasons, PHASES, {})
    assert [check.grade for check in found[:3]] == [Grade.BAD, Grade.WARN, Grade.UNKNOWN]
    assert verdict_of(found, valid=False).startswith("No")
    assert verdict_of(found, valid=True) == "Yes, with care: 1 remark"


def test_a_failed_run_says_why_and_nothing_else():
    failed = RUN | {"status": "failed", "failure_message": "no such operator", "failure_remedy": "export again"}
    checks = grades(run=failed, metrics=[], reasons=[{"code": "run_failed", "effect": "reject", "detail": "x"}])
    assert list(checks) == ["Failed"]
    assert (checks["Failed"].told, checks["Failed"].remedy) == ("no such operator", "export again")


def test_an_absent_tool_is_no_failure():
    absent = RUN | {"status": "not_available", "failure_message": "not installed"}
    assert grades(run=absent)["Not available"].grade is Grade.UNKNOWN


def test_what_is_unknown_is_called_so():
    checks = grades(run=RUN | {"realised_precision": None}, metrics=[], phases=[], quality={})
    unknown = {title for title, check in checks.items() if check.grade is Grade.UNKNOWN}
    assert unknown == {"Samples", "Warm-up", "Telemetry", "Precision"}


def test_another_precision_and_uncommitted_changes_are_said():
    checks = grades(run=RUN | {"realised_precision": "fp32", "git_dirty": True})
    assert checks["Precision"].told == "fp16 was asked for, fp32 was built"
    assert checks["Precision"].grade is checks["Commit"].grade is Grade.WARN


def test_clocks_that_moved_are_said():
    clocks = [*METRICS, {"metric": "sm_clock_mean_mhz", "value": 1900.0, "n": 1}]
    low = {"metric": "sm_clock_min_mhz", "value": 1500.0, "n": 1}
    assert grades(metrics=[*clocks, low])["Clocks"].grade is Grade.WARN
    assert grades(metrics=[*clocks, low | {"value": 1890.0}])["Clocks"].grade is Grade.GOOD
