from __future__ import annotations

from dataclasses import replace

import pytest

from enginewatch_ci.decide import decide
from enginewatch_ci.policy import Policy, parse_policy
from enginewatch_ci.thresholds import judge_limits
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import FindingKind, Severity

GPU = "NVIDIA H200"


def limits(arm, policy=None, comparisons=()):
    return {
        (item.case_key, item.detector.removeprefix("limit.")): item
        for item in judge_limits(arm, comparisons, policy or Policy())
    }


def with_metric(arm, metric, value, source="gpm"):
    found = MetricValue(metric=metric, value=value, source=source)
    return replace(arm, runs=tuple(replace(run, metrics=run.metrics | {metric: found}) for run in arm.runs))


def test_every_case_gets_all_five(lab, to_arm, cases):
    found = limits(to_arm(lab.session()))
    assert len(found) == 5 * len(cases)
    assert {item.kind for item in found.values()} == {FindingKind.THRESHOLD}
    assert all(item.evidence["state"] in ("met", "breached", "not_evaluable") for item in found.values())
    assert all(item.evidence["reason"] for item in found.values())


def test_p99_of_engines_and_of_servers(lab, to_arm, cases):
    found = limits(to_arm(lab.session()))[cases[1], "latency_p99_ms"]
    assert found.evidence["state"] == "met"
    assert found.metric == found.evidence["latency"] == "latency_p99_ms"
    assert found.confidence == "high"
    assert "p99 of latency 14." in found.title
    assert found.evidence["ci_low_ms"] < found.value < found.evidence["ci_high_ms"]
    server = limits(to_arm(lab.session(llm=True)))[cases[1], "latency_p99_ms"]
    assert server.metric == "ttft_p99_ms"
    assert "time to first token" in server.title


def test_a_slow_p99_is_breached_and_reported_only(lab, to_arm, cases):
    arm = to_arm(lab.session(cases={cases[0]: 300.0}))
    found = limits(arm)[cases[0], "latency_p99_ms"]
    assert found.evidence["state"] == "breached"
    assert found.severity is Severity.WARNING
    assert "≥ 200 ms" in found.title
    strict = parse_policy({"limits": {"fail_on": ["latency_p99_ms"]}}, "t")
    assert limits(arm, strict)[cases[0], "latency_p99_ms"].severity is Severity.CRITICAL


def test_close_to_the_limit_or_with_few_samples_it_is_unsure(lab, to_arm, cases):
    close = limits(to_arm(lab.session(cases={cases[0]: 200 / 1.3})))[cases[0], "latency_p99_ms"]
    assert close.confidence == "low"
    assert "across the limit" in close.evidence["reason"]
    thin = limits(to_arm(lab.session(samples=200)))[cases[0], "latency_p99_ms"]
    assert thin.confidence == "low"
    assert thin.evidence["samples_per_run"] == 200
    assert thin.evidence["state"] == "met"


def test_a_p99_whose_interval_reaches_the_limit_is_not_said_to_be_met(lab, to_arm, cases):
    case = cases[0]
    close = limits(to_arm(lab.session(cases={case: 0.96 * 200 / 1.3}, run_sd=0.05)))[case, "latency_p99_ms"]
    assert close.value < 200 < close.evidence["ci_high_ms"]
    assert close.evidence["state"] == "not_evaluable"
    assert close.severity is Severity.INFO
    assert "whether it is < 200 ms is not evaluable: its interval [" in close.title
    assert "(2000 samples a run)" in close.title
    above = limits(to_arm(lab.session(cases={case: 1.04 * 200 / 1.3}, run_sd=0.05)))[case, "latency_p99_ms"]
    assert above.evidence["ci_low_ms"] < 200 < above.value
    assert (above.evidence["state"], above.confidence) == ("breached", "low")
    assert "across the limit" in above.evidence["reason"]


@pytest.mark.parametrize(
    ("samples", "median_ms", "state"), [(99, 2.0, "not_evaluable"), (100, 2.0, "met"), (24, 300.0, "breached")]
)
def test_a_p99_of_few_samples_is_a_breach_or_not_evaluable(lab, to_arm, cases, samples, median_ms, state):
    arm = to_arm(lab.session(cases={cases[0]: median_ms}, samples=samples))
    found = limits(arm)[cases[0], "latency_p99_ms"]
    assert found.evidence["state"] == state
    assert found.confidence == "low"
    if samples < 100:
        assert found.evidence["reason"] == f"{samples} samples a run, of which a p99 is the slowest one or two"
        assert found.remedy
    if state == "not_evaluable":
        assert found.title.startswith(f"{cases[0]}: p99 of latency 2.6")
        assert found.value is not None


def test_the_fewest_samples_of_a_run_count(lab, to_arm, cases):
    arm = to_arm(lab.session(samples=5000))
    few = replace(arm.runs[0].metrics["latency_p99_ms"], n=30)
    runs = (replace(arm.runs[0], metrics=arm.runs[0].metrics | {few.metric: few}), *arm.runs[1:])
    found = limits(replace(arm, runs=runs))[arm.runs[0].case_key, "latency_p99_ms"]
    assert found.evidence["state"] == "not_evaluable"
    assert found.evidence["samples_per_run"] == 30


@pytest.mark.parametrize(("ci_high", "state"), [(3.0, "met"), (None, "not_evaluable"), (250.0, "not_evaluable")])
def test_a_single_run_is_held_to_its_own_interval(lab, to_arm, cases, ci_high, state):
    arm = to_arm(lab.session(repeats=1, samples=1500))
    own = MetricValue(metric="latency_p99_ms", value=2.6, ci_low=2.5, ci_high=ci_high, n=1500)
    runs = tuple(replace(run, metrics=run.metrics | {own.metric: own}) for run in arm.runs)
    found = limits(replace(arm, runs=runs))[cases[0], "latency_p99_ms"]
    assert found.evidence["state"] == state
    assert found.evidence["ci_high_ms"] == ci_high


def test_device_limits_are_not_evaluable_on_a_cpu(lab, to_arm, cases):
    found = limits(to_arm(lab.session()))
    for limit in ("sm_active_pct", "dram_bw_max_pct", "tensor_active_pct"):
        assert found[cases[0], limit].evidence["state"] == "not_evaluable"
        assert "runs on a CPU" in found[cases[0], limit].evidence["reason"]


@pytest.mark.parametrize(
    ("metric", "limit", "value", "state", "words"),
    [
        ("sm_active_mean_pct", "sm_active_pct", 85.0, "met", "85 % > 70 %"),
        ("sm_active_mean_pct", "sm_active_pct", 40.0, "breached", "40 % ≤ 70 %"),
        ("dram_bw_mean_pct_of_peak", "dram_bw_max_pct", 78.0, "met", "78 % of peak, within spec"),
        ("dram_bw_mean_pct_of_peak", "dram_bw_max_pct", 109.0, "breached", "a measuring error"),
        ("tensor_active_mean_pct", "tensor_active_pct", 66.0, "met", "near peak"),
        ("tensor_active_mean_pct", "tensor_active_pct", 12.0, "breached", "below 60 %"),
    ],
)
def test_device_limits_on_a_gpu(lab, to_arm, cases, metric, limit, value, state, words):
    found = limits(with_metric(to_arm(lab.session(device=GPU)), metric, value))[cases[0], limit]
    assert found.evidence["state"] == state
    assert words in found.title
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize("metric", ["sm_active_mean_pct", "tensor_active_mean_pct", "dram_bw_mean_pct_of_peak"])
@pytest.mark.parametrize("source", ["nvml_util", "derived", None])
def test_utilisation_rates_never_enter_a_device_limit(lab, to_arm, cases, metric, source):
    found = limits(with_metric(to_arm(lab.session(device=GPU)), metric, 99.0, source))
    mine = [item for (case, _), item in found.items() if case == cases[0] and item.metric == metric]
    assert [item.evidence["state"] for item in mine] == ["not_evaluable"]
    assert "does not count the hardware units' cycles" in mine[0].evidence["reason"]


def test_an_absent_device_metric_says_why(lab, to_arm, cases):
    arm = to_arm(lab.session(device=GPU))
    absent = MetricValue(metric="sm_active_mean_pct", value=None, absent_reason="GPM needs a Hopper GPU")
    arm = replace(arm, runs=tuple(replace(run, metrics=run.metrics | {absent.metric: absent}) for run in arm.runs))
    found = limits(arm)
    assert found[cases[0], "sm_active_pct"].evidence["reason"] == "GPM needs a Hopper GPU"
    assert "no run has dram_bw" in found[cases[0], "dram_bw_max_pct"].evidence["reason"]


def test_tokens_against_the_baseline_follow_the_verdict(lab, to_arm, cases):
    before = to_arm(lab.session(llm=True, run_sd=0.004))
    after = to_arm(lab.session(llm=True, run_sd=0.004, factors={cases[0]: 1.2}))
    found = limits(after, comparisons=decide(before, after, Policy()).comparisons)
    slow, same = found[cases[0], "tokens_vs_baseline"], found[cases[1], "tokens_vs_baseline"]
    assert slow.evidence["state"] == "breached"
    assert slow.metric == "output_tokens_s"
    assert "tokens/s -1" in slow.title
    assert same.evidence["state"] == "met"


def test_without_a_baseline_tokens_are_not_evaluable(lab, to_arm, cases):
    found = limits(to_arm(lab.session()))[cases[0], "tokens_vs_baseline"]
    assert found.evidence == {"state": "not_evaluable", "reason": "nothing to compare with"}
    assert found.metric == "throughput_qps"


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (("latency_p50_ms",), "its case has no comparison of throughput_qps, only of latency_p50_ms"),
        (("ttft_p50_ms",), "its case has no comparison of throughput_qps"),
    ],
)
def test_a_case_compared_on_other_metrics_is_not_said_to_have_nothing_to_compare_with(
    lab, to_arm, cases, metrics, words
):
    policy = parse_policy({"gate": {"metrics": list(metrics)}}, "t")
    arms = [to_arm(lab.session()) for _ in range(2)]
    # A case of another kind keeps the comparisons from being none at all.
    other = [to_arm(lab.session(llm=True, cases={"chat/fp16/llamacpp/c1": 20.0})) for _ in range(2)]
    arms = [replace(arm, runs=(*arm.runs, *more.runs)) for arm, more in zip(arms, other, strict=True)]
    found = limits(arms[1], policy, decide(*arms, policy).comparisons)[cases[0], "tokens_vs_baseline"]
    assert found.evidence == {"state": "not_evaluable", "reason": words}
    assert found.remedy == "add throughput_qps to gate.metrics of the policy"


def test_a_refused_case_says_so_for_tokens_as_well(lab, to_arm, cases):
    before, after = to_arm(lab.session(cases={cases[1]: 11.0})), to_arm(lab.session())
    found = limits(after, comparisons=decide(before, after, Policy()).comparisons)[cases[0], "tokens_vs_baseline"]
    assert found.evidence["reason"] == "new case: the baseline does not have it"
    assert found.remedy == "measure the same case in both sessions"


def test_an_unclear_comparison_leaves_tokens_not_evaluable(lab, to_arm, cases):
    arms = [to_arm(lab.session(run_sd=0.08, repeats=3)) for _ in range(2)]
    found = limits(arms[1], comparisons=decide(*arms, Policy()).comparisons)[cases[0], "tokens_vs_baseline"]
    assert found.evidence["state"] == "not_evaluable"


def test_cases_without_a_valid_run_have_no_limits(lab, to_arm, cases):
    found = limits(to_arm(lab.session(failing=(cases[0],))))
    assert not any(case == cases[0] for case, _ in found)
