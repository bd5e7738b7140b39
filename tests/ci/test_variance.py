"""Run-to-run and build-to-build spread: against simulated truth, textbook formulas, and the recording of an H200."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.stats.variance import build_spread, joined_spread, pooled_spread

RECORDED = Path(__file__).parents[1] / "data" / "ci" / "build-spread.json"


def simulated(run_sd: float, build_sd: float, builds: int, runs: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [5 * np.exp(rng.normal(0, build_sd)) * np.exp(rng.normal(0, run_sd, runs)) for _ in range(builds)]


def test_nine_builds_of_one_encoder_on_an_h200_differ_less_than_their_runs():
    groups: dict[int, list[float]] = {}
    for row in json.loads(RECORDED.read_text()):
        groups.setdefault(row["engine"], []).append(row["p50_ms"])
    logs = np.log(np.array(list(groups.values())))
    assert 100 * math.sqrt(logs.var(axis=1).mean()) == pytest.approx(0.13, abs=0.005)
    assert 100 * logs.mean(axis=1).std(ddof=1) == pytest.approx(0.05, abs=0.005)

    # With the freedom that each build's own mean takes, 0.14 %. The means of the builds differ by 0.05 %, and five runs
    # each of 0.14 % let them differ by 0.06 %: there is nothing between the builds that the runs do not explain.
    found = build_spread(list(groups.values()))
    assert (found.builds, found.runs) == (9, 45)
    assert found.run_sd_pct == pytest.approx(0.1435, abs=0.0005)
    assert (found.build_sd_pct, found.truncated) == (0.0, True)
    assert (found.run_ci.low, found.run_ci.high) == pytest.approx((0.117, 0.186), abs=0.001)
    assert (found.build_ci.low, found.build_ci.high) == pytest.approx((0.0, 0.079), abs=0.001)
    assert found.p_value == pytest.approx(0.71, abs=0.01)


@given(
    st.floats(0.001, 0.05),
    st.floats(0.001, 0.05),
    st.integers(60, 90),
    st.integers(20, 30),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=30)
def test_both_parts_of_a_simulated_spread_are_found(run_sd, build_sd, builds, runs, seed):
    found = build_spread(simulated(run_sd, build_sd, builds, runs, seed))
    assert found.run_sd_pct == pytest.approx(100 * run_sd, rel=0.15)
    # The means of the builds carry run_sd / sqrt(runs) of the runs, and there are few of them.
    noise = 100 * (build_sd + run_sd / math.sqrt(runs)) * 4 / math.sqrt(2 * (builds - 1))
    assert found.build_sd_pct == pytest.approx(100 * build_sd, abs=noise + 100 * run_sd / math.sqrt(runs) / 2)


@pytest.mark.parametrize(("run_sd", "build_sd"), [(0.01, 0.0), (0.01, 0.01), (0.002, 0.02)])
@pytest.mark.parametrize("sizes", [(5, 5, 5, 5), (2, 3, 5, 8, 2)])
def test_the_intervals_hold_the_truth_as_often_as_they_say(run_sd, build_sd, sizes):
    rng = np.random.default_rng(7)
    trials, run_hits, build_hits = 400, 0, 0
    for _ in range(trials):
        groups = [np.exp(rng.normal(0, build_sd) + rng.normal(0, run_sd, size)) for size in sizes]
        found = build_spread(groups, confidence=0.9)
        run_hits += found.run_ci.low <= 100 * run_sd <= found.run_ci.high
        build_hits += found.build_ci.low <= 100 * build_sd <= found.build_ci.high
    assert 0.86 < run_hits / trials < 0.94
    assert 0.86 < build_hits / trials < (0.97 if build_sd == 0 else 0.94)


@given(st.lists(st.lists(st.floats(0.1, 10), min_size=2, max_size=6), min_size=2, max_size=6), st.floats(0.01, 100))
@settings(max_examples=30)
def test_a_unit_and_the_order_of_builds_change_nothing(groups, scale):
    found = build_spread(groups)
    other = build_spread([[scale * value for value in group] for group in reversed(groups)])
    assert other.run_sd_pct == pytest.approx(found.run_sd_pct, rel=1e-6, abs=1e-6)
    assert other.build_sd_pct == pytest.approx(found.build_sd_pct, rel=1e-4, abs=1e-4)


def test_equal_groups_give_the_textbook_estimate():
    logs = np.array([[1.0, 1.2], [2.0, 2.4], [3.0, 2.6]])
    found = build_spread(np.exp(logs))
    within = ((logs - logs.mean(axis=1, keepdims=True)) ** 2).sum() / 3
    between = 2 * logs.mean(axis=1).var(ddof=1)
    assert found.run_sd_pct == pytest.approx(100 * math.sqrt(within))
    assert found.build_sd_pct == pytest.approx(100 * math.sqrt((between - within) / 2))


def test_builds_that_differ_less_than_their_runs_explain_say_so():
    found = build_spread([[1.0, 1.1], [1.1, 1.0], [1.0, 1.1]])
    assert (found.build_sd_pct, found.truncated) == (0.0, True)
    assert found.build_ci.low == 0.0


def test_what_cannot_be_told_is_absent_and_not_zero():
    one_build = build_spread([[1.0, 1.1, 1.2]])
    assert one_build.run_sd_pct is not None
    assert (one_build.build_sd_pct, one_build.build_ci, one_build.p_value) == (None, None, None)
    one_run_each = build_spread([[1.0], [1.1]])
    assert (one_run_each.run_sd_pct, one_run_each.build_sd_pct) == (None, None)
    with pytest.raises(ValueError, match="positive"):
        build_spread([[1.0, 0.0]])
    with pytest.raises(ValueError, match="at least one"):
        build_spread([])


@pytest.mark.parametrize("build_sd", [0.0, 0.01])
def test_cases_together_tell_what_two_builds_of_each_cannot(build_sd):
    rng = np.random.default_rng(11)
    trials, hits, ends, ends_of_one = 300, 0, [], []
    for _ in range(trials):
        cases = [
            [level * np.exp(rng.normal(0, build_sd) + rng.normal(0, 0.005, size)) for size in (3, 2)]
            for level in range(1, 13)
        ]
        found = pooled_spread(cases, confidence=0.9)
        hits += found.build_ci.low <= 100 * build_sd <= found.build_ci.high
        ends.append(found.build_ci.high)
        ends_of_one.append(build_spread(cases[0], confidence=0.9).build_ci.high)
    assert (found.builds, found.runs) == (24, 60)
    assert 0.85 < hits / trials < (0.97 if build_sd == 0 else 0.95)
    assert np.median(ends) < np.median(ends_of_one) / 2


def test_what_lies_between_cases_is_no_spread():
    one = [[1.0, 1.01], [1.02, 1.01]]
    other = [[100 * value for value in group] for group in one]
    both = pooled_spread([one, other])
    assert both.run_sd_pct == pytest.approx(build_spread(one).run_sd_pct)
    assert both.build_sd_pct == pytest.approx(build_spread(one).build_sd_pct)
    assert both.p_value < build_spread(one).p_value


def reused(rng, *, run_sd: float, build_sd: float, session_sd: float, alike: bool = True) -> list[list[dict]]:
    """Four models with two engines each; every engine serves three batches in each of three sessions, twice."""
    cases = []
    for model in range(4):
        effects = rng.normal(0, build_sd, 2)
        for batch in (1, 8, 32):
            effects = effects if alike else rng.normal(0, build_sd, 2)
            cases.append(
                [
                    {
                        f"{model}.{build}": batch * np.exp(session + effects[build] + rng.normal(0, run_sd, 2))
                        for build in range(2)
                    }
                    for session in rng.normal(0, session_sd, 3)
                ]
            )
    return cases


@pytest.mark.parametrize(("build_sd", "alike"), [(0.0, True), (0.01, True), (0.01, False)])
def test_intervals_hold_the_truth_where_engines_serve_several_cases_and_sessions(build_sd, alike):
    rng = np.random.default_rng(5)
    trials, run_hits, build_hits, naive_hits = 200, 0, 0, 0
    for _ in range(trials):
        cases = reused(rng, run_sd=0.002, build_sd=build_sd, session_sd=0.02, alike=alike)
        found = joined_spread(cases, confidence=0.9)
        run_hits += found.run_ci.low <= 0.2 <= found.run_ci.high
        build_hits += found.build_ci.low <= 100 * build_sd <= found.build_ci.high
        apart = pooled_spread([[*session.values()] for case in cases for session in case], confidence=0.9)
        naive_hits += apart.build_ci.low <= 100 * build_sd <= apart.build_ci.high
    assert (found.builds, found.runs) == (8, 144)
    assert 0.84 < run_hits / trials < 0.96
    assert 0.84 < build_hits / trials < (0.96 if alike and build_sd else 1.01)
    if alike and build_sd:
        assert naive_hits / trials < 0.6, "what counting each session and case as builds of their own does"


def test_what_changed_between_sessions_of_the_same_engines_is_no_spread():
    first = {"a": [1.00, 1.02], "b": [1.05, 1.04]}
    second = {"a": [1.01, 1.03], "b": [1.06, 1.02]}
    found = joined_spread([[first, second]])
    shifted = joined_spread([[first, {name: [3 * value for value in group] for name, group in second.items()}]])
    for name in ("run_sd_pct", "build_sd_pct", "p_value"):
        assert getattr(shifted, name) == pytest.approx(getattr(found, name))
    # The two-way analysis of variance, by its textbook sums: 8 runs, 2 builds, 2 sessions.
    logs = np.log([[first["a"], second["a"]], [first["b"], second["b"]]])
    fitted = logs.mean(axis=(1, 2), keepdims=True) + logs.mean(axis=(0, 2), keepdims=True) - logs.mean()
    within = ((logs - fitted) ** 2).sum() / 5
    between = 4 * logs.mean(axis=(1, 2)).var(ddof=1)
    assert found.run_sd_pct == pytest.approx(100 * math.sqrt(within))
    assert found.build_sd_pct == pytest.approx(100 * math.sqrt((between - within) / 4))
    assert (found.builds, found.runs) == (2, 8)


def test_sessions_that_share_no_build_are_like_cases_and_a_chain_of_shared_ones_joins_them():
    one, other = {"a": [1.0, 1.01], "b": [1.02, 1.01]}, {"c": [5.0, 5.1], "d": [5.2, 5.1]}
    assert joined_spread([[one, other]]) == pooled_spread([[*one.values()], [*other.values()]])
    chain = {"b": [3.0, 3.03], "c": [3.01, 3.02]}
    joined = joined_spread([[one, other, chain]])
    assert (joined.builds, joined.runs) == (4, 12)
    assert joined.build_sd_pct < 10, "the steps from session to session are not the builds'"


def test_one_build_in_many_sessions_says_nothing_of_builds():
    found = joined_spread([[{"a": [1.0, 1.01]}, {"a": [2.0, 2.02]}]])
    assert (found.builds, found.runs, found.build_sd_pct) == (1, 4, None)
    assert found.run_sd_pct < 1
