"""Quantiles against their definitions and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mstats

from enginewatch_db.quantile import HD_MAX_N, estimate, harrell_davis, interval_ranks, tail_log_ratio

samples = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300).map(np.array)
levels = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])


@given(samples, levels)
def test_the_estimate_lies_among_the_samples_and_inside_its_interval(values, q):
    found = estimate(values, q)
    assert values.min() * (1 - 1e-9) <= found.value <= values.max() * (1 + 1e-9)
    if found.ci_low is not None and found.ci_high is not None:
        assert found.ci_low <= found.ci_high
    assert found.n == values.size


@given(samples, levels, st.floats(0.01, 100))
def test_scaling_the_samples_scales_the_estimate(values, q, factor):
    assert estimate(values * factor, q).value == pytest.approx(estimate(values, q).value * factor, rel=1e-9)


@given(samples, st.randoms())
def test_the_order_of_the_samples_is_irrelevant(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert estimate(np.array(shuffled), 0.9) == estimate(values, 0.9)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("n", [5, 50, 500])
def test_harrell_davis_agrees_with_scipy(n, q):
    values = np.sort(np.random.default_rng(n).lognormal(size=n))
    assert harrell_davis(values, q) == pytest.approx(float(mstats.hdquantiles(values, [q])[0]), rel=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    truth = -np.log(0.1)
    hits = 0
    for _ in range(400):
        found = estimate(rng.exponential(size=300), 0.9)
        assert found.ci_low is not None
        assert found.ci_high is not None
        hits += found.ci_low <= truth <= found.ci_high
    assert 0.92 <= hits / 400 <= 0.99


def test_too_few_samples_have_no_upper_end_for_p99():
    found = estimate(np.arange(1.0, 101.0), 0.99)
    assert found.ci_high is None
    assert found.ci_low is not None


def test_large_runs_use_the_plain_quantile():
    values = np.arange(HD_MAX_N + 1, dtype=float)
    assert estimate(values, 0.5).value == HD_MAX_N / 2


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_bad_samples_are_refused(values):
    with pytest.raises(ValueError, match="quantile of"):
        estimate(np.array(values), 0.5)


def test_the_tail_is_free_of_scale_and_absent_for_few_samples():
    values = np.random.default_rng(1).lognormal(0, 0.1, 2000)
    assert tail_log_ratio(values) == pytest.approx(tail_log_ratio(values * 7))
    assert tail_log_ratio(values[:99]) is None


def test_a_rank_whose_share_is_exactly_the_tail_is_taken():
    # Of two samples, P(X <= 0) is exactly a quarter: the lower end lies before the first of them.
    assert interval_ranks(2, 0.5, 0.5) == (None, 1)
    assert interval_ranks(5, 0.5, 1 - 2 / 32) == (None, 4)
