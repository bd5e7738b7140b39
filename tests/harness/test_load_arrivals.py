"""Arrival schedules: absolute, seeded, and of the offered rate."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.arrivals import check_spec, constant, poisson, schedule

RATES = st.floats(0.1, 10_000)


def first(arrivals, count):
    return list(itertools.islice(arrivals, count))


@given(rate=RATES, count=st.integers(1, 3_000))
def test_constant_arrivals_never_drift(rate, count):
    offsets = first(constant(rate), count)
    assert offsets[0] == 0
    assert offsets[-1] == pytest.approx((count - 1) / rate * 1e9, abs=1)
    assert np.abs(np.diff(offsets) - 1e9 / rate).max(initial=0) <= 1


@given(rate=RATES, seed=st.integers(0, 2**32 - 1))
def test_poisson_arrivals_have_the_offered_rate(rate, seed):
    count = 5_000
    offsets = np.array(first(poisson(rate, seed), count))
    assert (np.diff(offsets) >= 0).all()
    assert offsets[0] >= 0
    # The time of the n-th arrival is Gamma(n, 1 / rate); a bound that one seed in 10^12 misses.
    low, high = stats.gamma(count, scale=1 / rate).ppf([1e-12 / 2, 1 - 1e-12 / 2])
    assert low <= offsets[-1] / 1e9 <= high


def test_poisson_gaps_are_exponential_across_blocks():
    gaps_s = np.diff(first(poisson(50.0, 7), 20_000)) / 1e9
    assert stats.kstest(gaps_s, "expon", args=(0, 1 / 50)).pvalue > 1e-3
    assert abs(np.corrcoef(gaps_s[:-1], gaps_s[1:])[0, 1]) < 0.03


@given(seed=st.integers(0, 1000))
def test_the_schedule_depends_on_the_seed_alone(seed):
    assert first(poisson(5.0, seed), 50) == first(poisson(5.0, seed), 50)
    assert first(poisson(5.0, seed), 50) != first(poisson(5.0, seed + 1), 50)


def test_the_spec_chooses_the_schedule():
    poisson_spec = LoadSpec(mode="poisson", rate_rps=4.0)
    assert first(schedule(poisson_spec, 3), 9) == first(poisson(4.0, 3), 9)
    constant_spec = LoadSpec(mode="constant", rate_rps=4.0)
    assert first(schedule(constant_spec, 3), 3) == [0, 250_000_000, 500_000_000]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LoadSpec(mode="burst"), "burst"),
        (LoadSpec(mode="poisson"), "rate_rps"),
        (LoadSpec(mode="poisson", rate_rps=0.0), "rate_rps"),
        (LoadSpec(mode="constant", rate_rps=float("nan")), "rate_rps"),
        (LoadSpec(mode="closed", concurrency=0), "concurrency"),
        (LoadSpec(mode="closed", isl=0), "isl"),
        (LoadSpec(mode="closed", osl=0), "osl"),
        (LoadSpec(mode="closed", requests=0), "requests"),
    ],
)
def test_a_spec_that_cannot_be_offered_is_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        check_spec(spec)


def test_a_closed_loop_has_no_arrivals():
    check_spec(LoadSpec(mode="closed"))
    with pytest.raises(UsageError, match="closed"):
        schedule(LoadSpec(mode="closed"), 0)
