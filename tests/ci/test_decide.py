from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_ci.decide import CHANCE, HOST, classify, decide
from enginewatch_ci.policy import Policy, parse_policy
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import SEVERITY, Verdict
from enginewatch_db.validity import Reason

GPU = "NVIDIA H200"


@pytest.fixture
def judged(lab, to_arm):
    """Return the decision on two sessions that the arguments describe."""

    def make(before=None, after=None, policy=None, history=None):
        return decide(
            to_arm(lab.session(**before or {})), to_arm(lab.session(**after or {})), policy or Policy(), history
        )

    return make


def table(decision):
    return {(item.case_key, item.metric): item for item in decision.comparisons}


def test_a_planted_slowdown_is_found_and_nothing_else(judged, cases):
    decision = judged({"run_sd": 0.005}, {"run_sd": 0.005, "factors": {cases[0]: 1.12}})
    found = table(decision)
    for (case, metric), item in found.items():
        if case == cases[0] and metric != "latency_p99_ms":
            assert item.verdict is Verdict.REGRESSED
            assert "beyond the 5 % that matter" in item.why
        elif case != cases[0]:
            assert item.verdict in (Verdict.UNCHANGED, Verdict.INCONCLUSIVE)
    slow = found[cases[0], "latency_p50_ms"]
    assert slow.effect.ci_low < 0.12 < slow.effect.ci_high
    assert slow.effect.method in ("bootstrap-t", "welch-t")
    assert slow.candidate_value == pytest.approx(2.0 * 1.12, rel=0.01)
    assert found[cases[0], "throughput_qps"].effect.rel == pytest.approx(1 / 1.12 - 1, abs=0.015)


def test_a_faster_case_is_improved(judged, cases):
    found = table(judged({"run_sd": 0.005}, {"run_sd": 0.005, "factors": {cases[1]: 0.85}}))
    assert found[cases[1], "latency_p50_ms"].verdict is Verdict.IMPROVED
    assert found[cases[1], "throughput_qps"].verdict is Verdict.IMPROVED


def test_the_same_session_twice_is_unchanged(lab, to_arm):
    arm = to_arm(lab.session())
    decision = decide(arm, arm, Policy())
    assert {item.verdict for item in decision.comparisons} == {Verdict.UNCHANGED}


def test_worst_first(judged, cases):
    decision = judged({"run_sd": 0.004}, {"run_sd": 0.004, "factors": {cases[0]: 1.2}, "failing": (cases[2],)})
    ranks = [SEVERITY.index(item.verdict) for item in decision.comparisons]
    assert ranks == sorted(ranks)
    assert decision.comparisons[0].verdict is Verdict.FAILED
    assert decision.comparisons[0].case_key == cases[2]


def test_a_slower_host_is_not_a_regression_on_a_cpu(judged, cases):
    decision = judged({"run_sd": 0.004}, {"run_sd": 0.004, "host": 1.12})
    item = table(decision)[cases[0], "latency_p50_ms"]
    assert item.verdict is Verdict.INCONCLUSIVE
    assert item.cause == HOST
    assert item.effect.ci_low > 0.05  # the raw effect is shown as it is
    assert "the host itself moved by +1" in item.why
    assert "interleaved" in item.why
    assert any(note.startswith("raw +1") and "taken out" in note for note in item.notes)
    assert decision.cohort is not None
    assert any("3 of 3 cases became slower together" in note for note in item.notes)


def test_a_faster_host_is_not_an_improvement(judged, cases):
    item = table(judged({"run_sd": 0.004}, {"run_sd": 0.004, "host": 0.85}))[cases[0], "latency_p50_ms"]
    assert (item.verdict, item.cause) == (Verdict.INCONCLUSIVE, HOST)


def test_a_regression_beyond_the_hosts_change_stays_one(judged, cases):
    decision = judged({"run_sd": 0.004}, {"run_sd": 0.004, "host": 1.05, "factors": {cases[0]: 1.2}})
    assert table(decision)[cases[0], "latency_p50_ms"].verdict is Verdict.REGRESSED


def test_on_a_gpu_the_host_is_only_a_note(judged, cases):
    decision = judged({"run_sd": 0.004, "device": GPU}, {"run_sd": 0.004, "device": GPU, "host": 1.12})
    item = table(decision)[cases[0], "latency_p50_ms"]
    assert item.verdict is Verdict.REGRESSED
    assert any("not taken out, this case runs on a GPU" in note for note in item.notes)


def busy(arm, share):
    """Mark the first runs of each case as measured beside other programs."""
    marked, seen = [], {}
    for run in arm.runs:
        number = seen[run.case_key] = seen.get(run.case_key, 0) + 1
        reasons = (Reason(code="host_busy"),) if number <= share * 5 else ()
        marked.append(replace(run, reasons=reasons))
    return replace(arm, runs=tuple(marked))


@pytest.mark.parametrize(
    ("shares", "median", "tail"),
    [
        ((0.0, 0.4), Verdict.REGRESSED, Verdict.REGRESSED),
        ((0.4, 0.0), Verdict.REGRESSED, Verdict.REGRESSED),
        ((0.6, 1.0), Verdict.REGRESSED, Verdict.INCONCLUSIVE),
        ((1.0, 1.0), Verdict.REGRESSED, Verdict.INCONCLUSIVE),
        ((0.0, 1.0), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ((1.0, 0.0), Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
    ],
)
def test_other_programs_on_the_cpu_are_not_blamed_on_the_code(lab, to_arm, cases, shares, median, tail):
    before = busy(to_arm(lab.session(run_sd=0.004)), shares[0])
    after = busy(to_arm(lab.session(run_sd=0.004, factors={cases[0]: 1.6})), shares[1])
    found = table(decide(before, after, Policy()))
    assert found[cases[0], "latency_p50_ms"].verdict is median
    assert found[cases[0], "latency_p99_ms"].verdict is tail
    assert found[cases[1], "latency_p50_ms"].verdict is Verdict.UNCHANGED
    if tail is Verdict.INCONCLUSIVE:
        assert found[cases[0], "latency_p99_ms"].cause == HOST
        assert "(host_busy): measure both sides again" in found[cases[0], "latency_p99_ms"].why


def test_on_a_gpu_a_busy_host_does_not_forbid_a_conclusion(lab, to_arm, cases):
    before = to_arm(lab.session(run_sd=0.004, device=GPU))
    after = busy(to_arm(lab.session(run_sd=0.004, device=GPU, factors={cases[0]: 1.6})), 1.0)
    assert table(decide(before, after, Policy()))[cases[0], "latency_p99_ms"].verdict is Verdict.REGRESSED


def test_a_sentinel_that_knows_nothing_is_no_control(lab, to_arm, cases):
    def tossed(arm):
        runs = []
        for run in arm.runs:
            noisy = replace(run.metrics["host_sentinel_ms"], value=float(np.exp(lab.rng.normal(0, 1.5))))
            runs.append(replace(run, metrics=run.metrics | {"host_sentinel_ms": noisy}))
        return replace(arm, runs=tuple(runs))

    before = tossed(to_arm(lab.session(run_sd=0.004)))
    after = tossed(to_arm(lab.session(run_sd=0.004, factors={cases[0]: 1.15})))
    decision = decide(before, after, Policy())
    assert not decision.host.tells(0.05)
    item = table(decision)[cases[0], "latency_p50_ms"]
    assert item.verdict is Verdict.REGRESSED
    assert any("too noisy to say whether the host moved" in note for note in item.notes)


def test_without_a_sentinel_a_cpu_case_says_so(lab, to_arm, cases):
    arm = to_arm(lab.session())
    bare = replace(
        arm,
        runs=tuple(
            replace(run, metrics={key: value for key, value in run.metrics.items() if key != "host_sentinel_ms"})
            for run in arm.runs
        ),
    )
    item = table(decide(bare, bare, Policy()))[cases[0], "latency_p50_ms"]
    assert any("no host sentinel" in note for note in item.notes)


def test_one_run_a_side_is_inconclusive_with_values_and_advice(judged, cases):
    item = table(judged({"repeats": 1}, {"repeats": 1}))[cases[0], "latency_p50_ms"]
    assert item.verdict is Verdict.INCONCLUSIVE
    assert item.effect is None
    assert item.baseline_value is not None
    assert "repeat at least 3 times" in item.why


def test_history_lets_one_run_speak(judged, to_arm, lab, cases):
    series = to_arm(lab.session()).of_case(cases[0])[0].series_id
    history = {(series, "latency_p50_ms"): tuple(2.0 + 0.005 * (number % 3) for number in range(20))}
    decision = judged({"repeats": 1}, {"repeats": 1, "factors": {cases[0]: 1.3}, "host": 1.0}, None, history)
    item = table(decision)[cases[0], "latency_p50_ms"]
    assert item.effect.method == "moderated-t"
    assert item.verdict is Verdict.REGRESSED


def test_noise_makes_it_inconclusive_and_says_how_many_runs_would_do(judged, cases):
    item = table(judged({"run_sd": 0.06, "repeats": 3}, {"run_sd": 0.06, "repeats": 3}))[cases[0], "latency_p50_ms"]
    assert item.verdict is Verdict.INCONCLUSIVE
    assert "runs a side would" in item.why


def test_among_many_comparisons_chance_is_considered(lab, to_arm):
    # Sixty noisy cases that did not change, judged at a threshold well inside the noise: alone some would be called.
    many = {f"case{number}/fp32/onnxruntime/b1": 1.0 for number in range(60)}
    settings = {"gate": {"metrics": ["latency_p50_ms"]}, "practical_pct": {"latency_p50_ms": 0.1}}
    arms = [to_arm(lab.session(cases=many, repeats=3, run_sd=0.03)) for _ in range(2)]
    alone = decide(*arms, parse_policy(settings | {"gate": {"metrics": ["latency_p50_ms"], "correction": "none"}}, "t"))
    together = decide(*arms, parse_policy(settings, "t"))

    def called(decision):
        decisive = (Verdict.REGRESSED, Verdict.IMPROVED)
        return [item.case_key for item in decision.comparisons if item.verdict in decisive]

    assert called(alone)
    assert not called(together)
    doubted = [item for item in together.comparisons if item.cause == CHANCE]
    assert {item.case_key for item in doubted} == set(called(alone))
    assert "among 60 comparisons that can be chance" in doubted[0].why


def test_a_metric_that_one_side_lacks_is_not_comparable(lab, to_arm, cases):
    before, after = to_arm(lab.session()), to_arm(lab.session())
    absent = MetricValue(metric="latency_p99_ms", value=None, absent_reason="12 samples")
    after = replace(
        after, runs=tuple(replace(run, metrics=run.metrics | {"latency_p99_ms": absent}) for run in after.runs)
    )
    item = table(decide(before, after, Policy()))[cases[0], "latency_p99_ms"]
    assert item.verdict is Verdict.NOT_COMPARABLE
    assert item.why == "the candidate has no latency_p99_ms: 12 samples"


def test_zero_has_no_relative_change(lab, to_arm, cases):
    arm = to_arm(lab.session(llm=True))
    zero = MetricValue(metric="itl_p50_ms", value=0.0)
    arm = replace(arm, runs=tuple(replace(run, metrics=run.metrics | {"itl_p50_ms": zero}) for run in arm.runs))
    item = table(decide(arm, arm, Policy()))[cases[0], "itl_p50_ms"]
    assert item.verdict is Verdict.INCONCLUSIVE
    assert "zero or below" in item.why


def test_the_tail_ratio_is_a_logarithm_already(lab, to_arm, cases):
    policy = parse_policy({"gate": {"metrics": ["latency_tail_log_ratio"]}}, "t")

    def with_tail(arm, level):
        runs = (
            replace(run, metrics={"latency_tail_log_ratio": MetricValue(metric="latency_tail_log_ratio", value=level)})
            for run in arm.runs
        )
        return replace(arm, runs=tuple(runs))

    before, after = with_tail(to_arm(lab.session()), 0.1), with_tail(to_arm(lab.session()), 0.4)
    item = table(decide(before, after, policy))[cases[0], "latency_tail_log_ratio"]
    assert item.verdict is Verdict.REGRESSED
    assert item.effect.rel == pytest.approx(2.718281828**0.3 - 1)
    assert (item.baseline_value, item.candidate_value) == (0.1, 0.4)


def test_a_new_case_is_listed_under_the_metric_of_its_kind(lab, to_arm, cases):
    def arm(**facts):
        return to_arm(lab.session(llm=True, **facts))

    few = {cases[1]: 11.0}
    for before, after, case in (
        (arm(cases=few), arm(), cases[0]),
        (arm(), arm(cases=few), cases[0]),
        (arm(), arm(failing=(cases[0],)), cases[0]),
        (arm(cases=few), arm(failing=(cases[0],)), cases[0]),  # no run has any metric: its load tells
    ):
        assert (case, "ttft_p50_ms") in table(decide(before, after, Policy()))
    engines = decide(to_arm(lab.session(cases=few)), to_arm(lab.session(failing=(cases[0],))), Policy())
    assert (cases[0], "latency_p50_ms") in table(engines)


def test_uncovered_cases_are_those_with_a_baseline_and_no_new_failure(judged, cases):
    decision = judged({}, {"cases": {cases[0]: 2.0}})
    assert decision.uncovered == (cases[1], cases[2])
    assert judged({}, {"failing": (cases[0],)}).uncovered == ()


def test_thresholds_of_the_policy_decide(judged, cases):
    before, after = {"run_sd": 0.002}, {"run_sd": 0.002, "factors": {cases[0]: 1.03}}
    assert table(judged(before, after))[cases[0], "latency_p50_ms"].verdict is Verdict.UNCHANGED
    tight = parse_policy({"practical_pct": {"latency_p50_ms": 1.5}}, "t")
    assert table(judged(before, after, tight))[cases[0], "latency_p50_ms"].verdict is Verdict.REGRESSED


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0.01, 0.3), st.booleans())
def test_classify_mirrors_with_the_direction(centre, half, limit, higher):
    low, high = centre - half, centre + half
    mirror = {Verdict.REGRESSED: Verdict.IMPROVED, Verdict.IMPROVED: Verdict.REGRESSED}
    found = classify(low, high, (-limit, limit), higher_is_better=higher)
    assert classify(-high, -low, (-limit, limit), higher_is_better=higher) is mirror.get(found, found)
    assert classify(low, high, (-limit, limit), higher_is_better=not higher) is mirror.get(found, found)


def test_rerunning_the_same_code_hardly_ever_alarms(make_lab, to_arm):
    # 40 pairs of sessions of the same code on a host that itself drifts by 2 % between sessions, three runs a side.
    lab = make_lab(2024)
    comparisons = alarms = 0
    for _ in range(40):
        hosts = [float(1 + 0.02 * lab.rng.standard_normal()) for _ in range(2)]
        arms = [to_arm(lab.session(repeats=3, run_sd=0.015, host=host)) for host in hosts]
        decision = decide(*arms, Policy())
        comparisons += len(decision.comparisons)
        alarms += sum(item.verdict is Verdict.REGRESSED for item in decision.comparisons)
    assert comparisons == 360
    assert alarms == 0
