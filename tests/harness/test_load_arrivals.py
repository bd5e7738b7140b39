"""Arrival schedules: absolute, seeded, and of the offered rate."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.arrivals import constant, gamma, poisson, schedule, steps, trace
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.spec import Dataset, LoadSpec, Prefixes

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


@given(rate=RATES, burstiness=st.floats(0.2, 3), seed=st.integers(0, 2**32 - 1))
def test_gamma_arrivals_keep_the_rate_whatever_the_burstiness(rate, burstiness, seed):
    count = 4_000
    shape = burstiness**-2
    last_s = first(gamma(rate, burstiness, seed), count)[-1] / 1e9
    low, high = stats.gamma(count * shape, scale=1 / (shape * rate)).ppf([1e-12 / 2, 1 - 1e-12 / 2])
    assert low <= last_s <= high


@pytest.mark.parametrize("burstiness", [0.25, 0.5, 1.0, 2.0])
def test_burstiness_is_the_coefficient_of_variation_of_the_gaps(burstiness):
    gaps_s = np.diff(first(gamma(20.0, burstiness, 11), 40_000)) / 1e9
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(burstiness, rel=0.04)
    assert stats.kstest(gaps_s, "gamma", args=(burstiness**-2, 0, burstiness**2 / 20)).pvalue > 1e-3


def test_a_gamma_of_burstiness_one_is_the_poisson_process():
    assert first(gamma(7.0, 1.0, 5), 3_000) == first(poisson(7.0, 5), 3_000)


PARTS = st.lists(
    st.tuples(st.floats(0, 300).map(lambda rate: round(rate, 3)), st.floats(0.1, 5)), min_size=1, max_size=6
).filter(lambda parts: any(rate > 1 for rate, _ in parts))


@given(parts=PARTS)
def test_even_steps_have_exactly_their_requests(parts):
    offsets_s = np.array(list(steps(tuple(parts), 0.0, 1))) / 1e9
    assert (np.diff(offsets_s) >= 0).all()
    assert len(offsets_s) == pytest.approx(sum(rate * seconds for rate, seconds in parts), abs=1)
    begin = 0.0
    for rate, seconds in parts:
        inside = ((offsets_s >= begin) & (offsets_s < begin + seconds)).sum()
        assert inside == pytest.approx(rate * seconds, abs=2)
        begin += seconds
    assert offsets_s[-1] < begin


@given(parts=PARTS, seed=st.integers(0, 2**32 - 1))
def test_random_steps_have_their_rates_and_end(parts, seed):
    offsets_s = np.array(list(steps(tuple(parts), 1.0, seed))) / 1e9
    begin = 0.0
    for rate, seconds in parts:
        inside = int(((offsets_s >= begin) & (offsets_s < begin + seconds)).sum())
        low, high = stats.poisson(rate * seconds).ppf([1e-12, 1 - 1e-12]) if rate else (0, 0)
        assert low - 1 <= inside <= high + 1  # rounding to ns may move one over an edge
        begin += seconds


def test_a_trace_is_replayed_at_its_speed():
    assert list(trace([0, 30, 31, 400], 2.0)) == [0, 15, 16, 200]
    spec = LoadSpec(mode="trace", dataset=Dataset(path=Path("t"), speed=0.5))
    assert list(schedule(spec, 1, [0, 10])) == [0, 20]
    with pytest.raises(UsageError, match="dataset with times"):
        schedule(spec, 1)


def test_the_spec_gives_burstiness_and_steps():
    spec = LoadSpec(mode="gamma", rate_rps=4.0, burstiness=0.5)
    assert first(schedule(spec, 3), 9) == first(gamma(4.0, 0.5, 3), 9)
    ramp = LoadSpec(mode="steps", steps=((2.0, 1.0), (4.0, 1.0)), burstiness=0.0)
    assert [round(offset / 1e6) for offset in schedule(ramp, 3)] == [0, 500, 1000, 1250, 1500, 1750]


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
        (LoadSpec(mode="posson", rate_rps=1.0), "did you mean 'poisson'"),
        (LoadSpec(mode="poisson", rate_rps=-1.0), "-1.0"),
        (LoadSpec(mode="gamma", rate_rps=float("inf")), "inf"),
        (LoadSpec(mode="closed", rate_rps=1.0), "takes no rate_rps"),
        (LoadSpec(mode="gamma", rate_rps=1.0, burstiness=0.0), "burstiness = 0.0"),
        (LoadSpec(mode="gamma", rate_rps=1.0, burstiness=float("nan")), "burstiness = nan"),
        (LoadSpec(mode="poisson", rate_rps=1.0, burstiness=2.0), "takes no burstiness"),
        (LoadSpec(mode="steps"), "needs steps"),
        (LoadSpec(mode="steps", steps=((1.0, 1.0), (2.0, -1.0))), r"steps\[1\] lasts -1.0"),
        (LoadSpec(mode="steps", steps=((-1.0, 1.0),)), r"steps\[0\] has a rate of -1.0"),
        (LoadSpec(mode="steps", steps=((0.0, 1.0),)), "no rate above 0"),
        (LoadSpec(mode="closed", steps=((1.0, 1.0),)), "takes no steps"),
        (LoadSpec(mode="closed", think_time_s=float("nan")), "think_time_s = nan"),
        (LoadSpec(mode="closed", think_time_s=-1.0), "think_time_s = -1.0"),
        (LoadSpec(mode="poisson", rate_rps=1.0, think_time_s=1.0), "does not wait for answers"),
        (LoadSpec(mode="closed", isl_dist="gauss:3"), "isl_dist = 'gauss:3'"),
        (LoadSpec(mode="closed", osl_dist="data"), "osl_dist = 'data' needs a dataset"),
        (LoadSpec(mode="trace"), "needs a dataset"),
        (LoadSpec(mode="closed", dataset=Dataset(path=Path("x"), format="csv")), "format 'csv'"),
        (LoadSpec(mode="trace", dataset=Dataset(path=Path("x"), speed=0.0)), "speed = 0.0"),
        (LoadSpec(mode="closed", dataset=Dataset(path=Path("x"), speed=2.0)), "speed = 2 has no meaning"),
        (LoadSpec(mode="closed", prefixes=Prefixes(groups=0, tokens=1)), "prefixes.groups = 0"),
        (LoadSpec(mode="closed", isl=64, prefixes=Prefixes(groups=1, tokens=64)), "prefixes.tokens = 64 leaves"),
        (LoadSpec(mode="closed", turns=0), "turns = 0"),
        (LoadSpec(mode="closed", processes=-1), "processes = -1"),
        (LoadSpec(mode="closed", slo={"ttf_ms": 1.0}), "did you mean 'ttft_ms'"),
        (LoadSpec(mode="closed", slo={"ttft_ms": float("nan")}), "slo.ttft_ms = nan"),
        (LoadSpec(mode="closed", slo={"e2e_ms": 0.0}), "slo.e2e_ms = 0.0"),
    ],
)
def test_a_spec_that_cannot_be_offered_is_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        check_spec(spec)


def test_a_closed_loop_has_no_arrivals():
    check_spec(LoadSpec(mode="closed"))
    with pytest.raises(UsageError, match="closed"):
        schedule(LoadSpec(mode="closed"), 0)
