from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enginewatch_ci.decide import classify
from enginewatch_ci.stats import Sample, estimate_effect, one_sample
from enginewatch_db.model import Verdict

LIMITS = (float(np.log(0.95)), float(np.log(1.05)))
RUNS = arrays(np.float64, st.integers(2, 8), elements=st.floats(-0.3, 0.3))
PRIORS = st.one_of(st.none(), st.floats(0.002, 0.1))
FAST = 199


def effect(a, b, prior=None, resamples=FAST, within=()):
    return estimate_effect(
        Sample(logs=np.asarray(a, dtype=float), key="a", within_sd=within),
        Sample(logs=np.asarray(b, dtype=float), key="b", within_sd=within),
        prior_sd=prior,
        resamples=resamples,
    )


@given(RUNS, RUNS, PRIORS)
def test_swapping_the_arms_mirrors_effect_and_interval(a, b, prior):
    there = effect(a, b, prior)
    back = estimate_effect(Sample(logs=b, key="b"), Sample(logs=a, key="a"), prior_sd=prior, resamples=FAST)
    assert back.shift == pytest.approx(-there.shift, abs=1e-12)
    low, high = there.interval(0.95)
    assert back.interval(0.95) == pytest.approx((-high, -low), abs=1e-9)
    assert back.method == there.method


@given(RUNS, RUNS, PRIORS, st.floats(-5, 5))
def test_the_unit_does_not_matter(a, b, prior, log_factor):
    here, there = effect(a, b, prior), effect(a + log_factor, b + log_factor, prior)
    assert there.shift == pytest.approx(here.shift, abs=1e-9)
    assert there.interval(0.95) == pytest.approx(here.interval(0.95), abs=1e-7)


@given(RUNS, RUNS, PRIORS, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_contains_the_estimate_and_grows_with_confidence(a, b, prior, confidence):
    found = effect(a, b, prior)
    low, high = found.interval(confidence)
    assert low <= found.shift <= high
    assert found.half_width(confidence) <= found.half_width(0.995) + 1e-12


@given(RUNS, RUNS, PRIORS, st.floats(0, 0.4), st.floats(0, 0.4))
def test_the_verdict_is_monotone_in_the_shift(a, b, prior, one, more):
    order = [Verdict.IMPROVED, Verdict.UNCHANGED, Verdict.REGRESSED]
    verdicts = []
    for shift in (one, one + more):
        found = effect(a, b + shift, prior)
        verdicts.append(classify(*found.interval(0.95), LIMITS, higher_is_better=False))
    before, after = verdicts
    if before is Verdict.REGRESSED:
        assert after is Verdict.REGRESSED
    if before in order and after in order:
        assert order.index(before) <= order.index(after)


@given(RUNS, PRIORS)
def test_identical_arms_never_regress(runs, prior):
    same = Sample(logs=runs, key="x")
    found = estimate_effect(same, same, prior_sd=prior, resamples=FAST)
    assert found.shift == 0
    low, high = found.interval(0.95)
    assert low < 0 < high
    assert classify(low, high, LIMITS, higher_is_better=False) in (Verdict.UNCHANGED, Verdict.INCONCLUSIVE)


def test_an_arm_against_itself_is_resampled_from_two_streams():
    same = Sample(logs=np.array([0.0, 0.01, -0.01, 0.02]), key="x")
    found = estimate_effect(same, same, resamples=FAST)
    assert found.method == "bootstrap-t"
    assert np.median(found.null.ordered) > 0.3


@given(RUNS, RUNS)
@settings(max_examples=40)
def test_p_values_agree_with_the_interval(a, b):
    found = effect(a, b)
    low, high = found.interval(0.95)
    assert found.p_above(low - 1e-6) <= 0.025 + 1e-4 <= found.p_above(low + 0.02) + 2e-4
    assert found.p_below(high + 1e-6) <= 0.025 + 1e-4 <= found.p_below(high - 0.02) + 2e-4
    assert found.p_above(found.shift + 0.01) > 0.5 > found.p_above(found.shift - 0.01)


def test_methods_are_chosen_by_the_data():
    rng = np.random.default_rng(1)
    quiet, other, loud = rng.normal(0, 0.01, 6), rng.normal(0, 0.01, 6), rng.normal(0, 0.2, 6)
    assert effect(quiet, other).method == "bootstrap-t"
    assert effect(quiet, loud).method == "welch-t"
    assert effect(quiet[:2], other).method == "welch-t"
    assert effect(quiet[:3], other[:3], prior=0.01).method == "moderated-t"
    assert effect(quiet, other, prior=0.01).method == "bootstrap-t"  # six runs speak for themselves
    assert effect(quiet[:3], loud[:3], prior=0.01).method != "moderated-t"  # the history is refuted


def test_one_run_a_side_needs_a_history():
    assert effect([0.0], [0.1]) is None
    assert effect([0.0], [0.1, 0.1, 0.1]) is None
    found = effect([0.0], [0.3], prior=0.01)
    assert found.method == "moderated-t"
    assert found.interval(0.95)[0] > LIMITS[1]


def test_runs_that_agree_by_accident_give_no_false_certainty():
    # All spread is zero: without floors the interval would be a point.
    found = effect([0.0, 0.0, 0.0], [0.052, 0.052, 0.052], within=(0.02, 0.02, 0.02))
    assert found.half_width(0.95) > 0.03
    assert effect([0.0] * 3, [0.0] * 3).half_width(0.95) > 0.001


def test_welch_matches_scipy():
    from scipy import stats

    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 0.02, 2), rng.normal(0.1, 0.02, 5)
    found = effect(a, b)
    peer = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found.method == "welch-t"
    assert found.interval(0.95) == pytest.approx((peer.low, peer.high))


def test_an_outlier_run_does_not_hide_a_regression():
    baseline = [0.000, 0.004, -0.005, 0.002, -0.001, 0.003]
    candidate = [0.100, 0.097, 0.104, 0.101, 0.098, 0.45]
    found = effect(baseline, candidate, resamples=1999)
    assert found.interval(0.95)[0] > LIMITS[1]


@pytest.mark.parametrize("noise", ["normal", "heavy", "outliers"])
@pytest.mark.parametrize("runs", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(noise, runs):
    rng = np.random.default_rng([7, runs, len(noise)])
    trials, covered, alarms = 300, 0, 0
    for number in range(trials):
        z = rng.standard_t(3, (2, runs)) / np.sqrt(3) if noise == "heavy" else rng.normal(0, 1, (2, runs))
        if noise == "outliers":
            z += (rng.random((2, runs)) < 0.1) * rng.uniform(3, 10, (2, runs))
        found = estimate_effect(
            Sample(logs=0.02 * z[0], key=f"a{number}"), Sample(logs=0.02 * z[1], key=f"b{number}"), resamples=399
        )
        low, high = found.interval(0.95)
        covered += low <= 0 <= high
        alarms += low > LIMITS[1]
    # 0.92 is more than two standard errors below 0.95: a broken variance fails, chance does not.
    assert covered / trials >= 0.92
    assert alarms / trials <= 0.005


def test_at_the_threshold_itself_a_regression_is_called_rarely():
    rng = np.random.default_rng(11)
    trials = 400
    called = 0
    for number in range(trials):
        a, b = rng.normal(0, 0.02, (2, 4))
        found = estimate_effect(
            Sample(logs=a, key=f"a{number}"), Sample(logs=b + LIMITS[1], key=f"b{number}"), resamples=399
        )
        called += found.interval(0.95)[0] > LIMITS[1]
    assert called / trials <= 0.045  # 0.025 and two and a half standard errors


def test_ten_percent_is_found_with_five_runs_and_one_percent_noise():
    rng = np.random.default_rng(12)
    found = 0
    for number in range(100):
        a, b = rng.normal(0, 0.01, (2, 5))
        result = estimate_effect(
            Sample(logs=a, key=f"a{number}"), Sample(logs=b + np.log(1.1), key=f"b{number}"), resamples=399
        )
        found += result.interval(0.95)[0] > LIMITS[1]
    assert found >= 97


def test_history_lends_power_to_three_runs():
    rng = np.random.default_rng(13)
    own = lent = 0
    for number in range(200):
        a, b = rng.normal(0, 0.02, (2, 3))
        arms = (Sample(logs=a, key=f"a{number}"), Sample(logs=b + np.log(1.1), key=f"b{number}"))
        own += estimate_effect(*arms, resamples=199).interval(0.95)[0] > LIMITS[1]
        lent += estimate_effect(*arms, prior_sd=0.02).interval(0.95)[0] > LIMITS[1]
    assert lent > own + 20


def test_one_sample_gives_location_and_interval():
    logs = np.log(np.array([9.9, 10.0, 10.1, 10.0]))
    location, low, high = one_sample(Sample(logs=logs), 0.95)
    assert np.exp(location) == pytest.approx(10.0, rel=1e-3)
    assert low < location < high


def test_one_sample_of_one_run_has_only_its_own_interval():
    assert one_sample(Sample(logs=np.zeros(1)), 0.95) == (0.0, None, None)
    _, low, high = one_sample(Sample(logs=np.zeros(1), within_sd=(0.01,)), 0.95)
    assert high == pytest.approx(0.0196, abs=1e-4)
    assert low == -high


def test_one_disturbed_run_among_twelve_neither_moves_nor_widens_the_effect_of_unequal_arms():
    quiet = np.log([6.62, 6.55, 6.55, 6.45, 6.62, 6.54, 6.59, 6.65, 6.52, 6.53, 6.49, 6.5])
    slow = np.log([7.06, 6.95, 7.03, 7.52, 7.47, 7.76, 7.11, 7.49, 7.34, 7.26, 7.31, 7.07])
    disturbed = quiet.copy()
    disturbed[1] = np.log(9.15)
    clean = estimate_effect(Sample(logs=quiet, key="a"), Sample(logs=slow, key="b"))
    found = estimate_effect(Sample(logs=disturbed, key="a"), Sample(logs=slow, key="b"))
    assert found.method == clean.method == "yuen-t"
    assert found.shift == pytest.approx(clean.shift, abs=0.003)
    assert found.half_width(0.95) < 1.1 * clean.half_width(0.95)


def test_the_trimmed_interval_covers_the_truth_where_spreads_differ():
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        a, b = rng.normal(0, 0.01, 12), rng.normal(0, 0.04, 12)
        found = estimate_effect(Sample(logs=a, key="a"), Sample(logs=b, key="b"), resamples=199)
        low, high = found.interval(0.95)
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.98
