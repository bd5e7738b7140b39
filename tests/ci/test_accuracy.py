from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginewatch_ci.accuracy import CAUSE, DISTANCE, judge_accuracy
from enginewatch_ci.exit_codes import exit_code
from enginewatch_ci.judge import judge_arms
from enginewatch_ci.policy import REL_L2_LIMITS, AccuracyRules, Policy, parse_policy
from enginewatch_db.errors import ExitCode, UsageError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Severity, Verdict

INT8 = "mlp/int8/onnxruntime/b8"


def with_accuracy(records, values, *, case=INT8):
    """Return the records with accuracy metrics in the first run of a case, absent in its others."""
    done, out = False, []
    for record in records:
        if record.case_key == case:
            metrics = [
                MetricValue(metric=metric, value=value)
                if not done
                else MetricValue(metric=metric, value=None, absent_reason="checked once")
                for metric, value in values.items()
            ]
            done = True
            record = replace(record, metrics=(*record.metrics, *metrics))
        out.append(record)
    return out


def test_a_faster_engine_that_is_wrong_has_failed(lab, to_arm):
    before = to_arm(with_accuracy(lab.session(run_sd=0.003), {DISTANCE: 0.02}))
    after = to_arm(with_accuracy(lab.session(run_sd=0.003, factors={INT8: 0.5}), {DISTANCE: 0.7}))
    found = judge_arms(before, after, Policy())
    assert found.verdict is Verdict.FAILED
    mine = [item for item in found.comparisons if item.case_key == INT8]
    assert {item.verdict for item in mine} == {Verdict.FAILED, Verdict.NOT_COMPARABLE}
    failed = next(item for item in mine if item.verdict is Verdict.FAILED)
    assert (failed.metric, failed.cause, failed.baseline_value, failed.candidate_value) == (DISTANCE, CAUSE, 0.02, 0.7)
    assert "0.7 > 0.3" in failed.why
    assert all("its speed does not count" in item.why for item in mine if item is not failed)
    assert "did not before" not in found.sentence
    assert f"{INT8} (accuracy)" in found.sentence
    assert exit_code(found) is ExitCode.FAILED


def test_a_wrong_engine_that_got_slower_is_still_slower(lab, to_arm):
    before = to_arm(with_accuracy(lab.session(run_sd=0.003), {DISTANCE: 0.7}))
    after = to_arm(with_accuracy(lab.session(run_sd=0.003, factors={INT8: 1.5}), {DISTANCE: 0.7}))
    verdicts = {item.verdict for item in judge_arms(before, after, Policy()).comparisons if item.case_key == INT8}
    assert {Verdict.FAILED, Verdict.REGRESSED} <= verdicts


def test_a_first_session_fails_without_a_baseline(lab, to_arm):
    found = judge_arms(None, to_arm(with_accuracy(lab.session(), {DISTANCE: 0.31})), Policy())
    assert found.verdict is Verdict.FAILED
    assert found.sentence.startswith(f"Failed: {INT8}: the outputs are wrong")
    assert exit_code(found, need_baseline=False) is ExitCode.FAILED


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        (0.02, 0.039, None),
        (0.02, 0.05, Verdict.REGRESSED),
        (0.001, 0.029, None),  # thirty times as far, and still a tenth of what matters
        (0.0, 0.05, Verdict.REGRESSED),
        (0.05, 0.02, None),
    ],
)
def test_clearly_less_exact_is_a_regression(lab, to_arm, then, now, verdict):
    before = to_arm(with_accuracy(lab.session(), {DISTANCE: then}))
    after = to_arm(with_accuracy(lab.session(), {DISTANCE: now}))
    found = judge_accuracy(before, after, Policy())
    assert [item.verdict for item in found.comparisons] == ([verdict] if verdict else [])
    assert found.wrong == {}


def test_the_policy_may_only_report(lab, to_arm):
    policy = Policy(accuracy=AccuracyRules(wrong="report"))
    before, after = lab.session(run_sd=0.003), with_accuracy(lab.session(run_sd=0.003), {DISTANCE: 0.9})
    found = judge_arms(to_arm(before), to_arm(after), policy)
    assert Verdict.FAILED not in found.counts
    assert Verdict.NOT_COMPARABLE not in found.counts
    (finding,) = [item for item in found.findings if item.detector == "limit.accuracy"]
    assert (finding.severity, finding.evidence["state"]) == (Severity.WARNING, "breached")


def test_cosine_and_top1_have_limits_on_demand(lab, to_arm):
    arm = to_arm(
        with_accuracy(lab.session(), {DISTANCE: 0.1, "output_cosine": 0.97, "output_top1_agreement_pct": 96.0})
    )
    assert judge_accuracy(None, arm, Policy()).wrong == {}
    rules = AccuracyRules(cosine_min={"int8": 0.98}, top1_min_pct={"int8": 99.0, "fp16": 100.0})
    wrong = judge_accuracy(None, arm, Policy(accuracy=rules)).wrong[INT8]
    assert "output_cosine 0.97 < 0.98" in wrong
    assert "output_top1_agreement_pct 96 % < 99" in wrong


def test_absence_is_told_and_fails_nothing(lab, to_arm):
    records = [
        replace(r, metrics=(*r.metrics, MetricValue(metric=DISTANCE, value=None, absent_reason="no reference ran")))
        if r.case_key == INT8
        else r
        for r in lab.session()
    ]
    found = judge_accuracy(None, to_arm(records), Policy())
    (finding,) = found.findings
    assert finding.evidence["state"] == "not_evaluable"
    assert "no reference ran" in finding.title
    assert finding.value is None
    assert (found.comparisons, found.wrong) == ((), {})


def test_cases_without_the_metric_say_nothing(lab, to_arm):
    assert judge_accuracy(None, to_arm(lab.session()), Policy()).findings == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 10, allow_nan=False), st.floats(1e-6, 1))
def test_wrong_means_beyond_the_limit(lab, to_arm, value, limit):
    policy = Policy(accuracy=AccuracyRules(rel_l2={"int8": limit}))
    arm = to_arm(with_accuracy(lab.session(repeats=1, cases={INT8: 1.0}), {DISTANCE: value}))
    found = judge_accuracy(None, arm, policy)
    assert bool(found.wrong) == (value > limit)
    assert bool(found.comparisons) == bool(found.wrong)


def test_a_policy_adds_to_the_built_in_limits():
    rules = parse_policy({"accuracy": {"rel_l2": {"fp8": 0.1}}}, "policy.toml").accuracy
    assert rules.limit("rel_l2", "fp8") == 0.1
    assert rules.limit("rel_l2", "fp16") == REL_L2_LIMITS["fp16"]
    assert rules.limit("cosine_min", "fp16") is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"rel_l2": {"int9": 0.1}}, "did you mean 'int8'?"),
        ({"cosine_min": {"int8": -1.0}}, "at least 0"),
        ({"worse_factor": 1.0}, "greater than 1"),
        ({"rell2": {}}, "did you mean 'rel_l2'?"),
    ],
)
def test_bad_rules_name_the_remedy(table, said):
    with pytest.raises(UsageError, match="accuracy") as caught:
        parse_policy({"accuracy": table}, "policy.toml")
    assert said in f"{caught.value.message} {caught.value.remedy}"
