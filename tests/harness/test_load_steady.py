"""Steady state on simulated queues: rarely flagged when stable, nearly always when overloaded or drifting."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.arrays import load_arrays
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.steady import (
    MIN_REQUESTS,
    Steadiness,
    steadiness,
    steady_metrics,
    steady_reasons,
    trend,
)

SECOND = 10**9
SEEDS = 200
OPEN = LoadSpec(mode="poisson", rate_rps=1.0, concurrency=64)
CLOSED = LoadSpec(mode="closed", concurrency=16)


def open_queue(rng, *, load, servers, n, warmup, constant=False):
    """First come, first served, by ``servers`` that each need a second on average (M/M/c)."""
    count = n + warmup
    gap = 1 / (load * servers)
    starts = np.cumsum(np.full(count, gap) if constant else rng.exponential(gap, count))
    needs = rng.exponential(1.0, count)
    free = [0.0] * servers
    times = np.empty(count)
    for index, start in enumerate(starts.tolist()):
        end = max(heapq.heappop(free), start) + needs[index]
        heapq.heappush(free, end)
        times[index] = end - start
    return starts, times, (starts[warmup] if warmup else 0.0, starts[-1])


def closed_loop(rng, *, streams, length, slower=0.0, spread=0.3):
    """Streams that each ask again at once; the server becomes slower by this share over the window."""
    sigma = np.sqrt(np.log1p(spread**2))
    free = [(0.0, stream) for stream in range(streams)]
    warmup, starts, times = 3.0, [], []
    while free[0][0] < warmup + length:
        start, stream = heapq.heappop(free)
        need = rng.lognormal(-sigma * sigma / 2, sigma) * (1 + slower * max(0.0, start - warmup) / length)
        starts.append(start)
        times.append(need)
        heapq.heappush(free, (start + need, stream))
    return np.array(starts), np.array(times), (warmup, warmup + length)


@pytest.fixture(scope="module")
def state_of(timed_table):
    """Look at a simulated load: starts and times in seconds, and the window."""

    def build(simulated, spec):
        starts, times, (begin, end) = simulated
        table = timed_table(starts, times, begin, end, open_loop=spec.mode != "closed")
        return steadiness(load_arrays(table), spec, (round(begin * 1e9), round(end * 1e9)))

    return build


@pytest.fixture(scope="module")
def shares(state_of):
    """Return how often of ``SEEDS`` loads each reason is given, and any."""

    def build(simulate, spec, seeds=SEEDS, **given):
        found = [
            steady_reasons(state_of(simulate(np.random.default_rng(seed), **given), spec)) for seed in range(seeds)
        ]
        codes = [reason.code for reasons in found for reason in reasons]
        return {code: codes.count(code) / seeds for code in ("load_not_steady", "not_steady")}

    return build


@pytest.mark.parametrize(
    "given",
    [
        {"servers": 8, "n": 500, "warmup": 100},
        {"servers": 1, "n": 500, "warmup": 100},
        {"servers": 32, "n": 300, "warmup": 0},  # begins on an empty server
        {"servers": 8, "n": 120, "warmup": 30},
    ],
)
def test_a_stable_open_loop_is_rarely_flagged(shares, given):
    found = shares(open_queue, OPEN, load=0.7, **given)
    assert found["load_not_steady"] <= 0.005
    assert sum(found.values()) < 0.02


@pytest.mark.parametrize(("servers", "constant"), [(8, False), (8, True), (32, False)])
def test_an_overloaded_open_loop_is_rejected(shares, servers, constant):
    found = shares(open_queue, OPEN, load=1.2, servers=servers, n=1000, warmup=50, constant=constant)
    assert found["load_not_steady"] > 0.95


def test_a_small_overloaded_load_is_mostly_seen(shares):
    assert shares(open_queue, OPEN, seeds=60, load=1.5, servers=8, n=200, warmup=30)["load_not_steady"] > 0.9


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_a_steady_closed_loop_is_not_flagged(shares, spread):
    found = shares(closed_loop, CLOSED, streams=16, length=30, spread=spread)
    assert found["load_not_steady"] == 0
    assert found["not_steady"] <= 0.01


def test_a_server_that_becomes_slower_is_marked(shares):
    found = shares(closed_loop, CLOSED, streams=16, length=30, slower=0.5)
    assert found["not_steady"] > 0.95
    assert found["load_not_steady"] == 0


def test_the_drift_is_the_change_of_e2e_over_the_window(state_of):
    drifts = [
        state_of(closed_loop(np.random.default_rng(seed), streams=16, length=60, slower=0.5, spread=0.1), CLOSED)
        for seed in range(10)
    ]
    assert np.mean([state.drift_pct for state in drifts]) == pytest.approx(50, abs=4)  # batches end short of the ends


def test_littles_law_on_loads_counted_by_hand(state_of):
    # Two always in flight: each begins when the one before it ends.
    starts = np.repeat(np.arange(0.0, 100.0), 2)
    state = state_of((starts, np.ones(200), (0.0, 100.0)), LoadSpec(mode="closed", concurrency=2))
    assert state.in_flight == pytest.approx(2)
    assert state.little_ratio == pytest.approx(1)
    assert state.n == 200
    assert steady_reasons(state) == ()
    # One request of 10 s every second, on an empty server: the first 31 end inside, the rest spend 9 + 8 + ... + 1.
    state = state_of((np.arange(0.0, 40.0), np.full(40, 10.0), (0.0, 40.0)), OPEN)
    assert state.in_flight == pytest.approx((310 + 45) / 40)
    assert state.little_ratio == pytest.approx(355 / 400)


def test_requests_that_never_come_back_break_littles_law(state_of):
    # The second half of the load takes a hundred times as long: the law holds over no window of this length.
    times = np.concatenate([np.full(100, 1.0), np.full(100, 100.0)])
    state = state_of((np.linspace(0, 1000, 200, endpoint=False), times, (0.0, 1000.0)), OPEN)
    assert abs(state.little_ratio - 1) < state.little_tolerance  # 1,000 s are long enough
    hung = np.concatenate([np.full(190, 1.0), np.full(10, 40_000.0)])
    state = state_of((np.linspace(0, 1000, 200, endpoint=False), hung, (0.0, 1000.0)), CLOSED)
    assert state.little_ratio < 0.1


def test_a_ratio_beyond_its_tolerance_rejects():
    state = Steadiness(in_flight=3.0, little_ratio=0.6, little_tolerance=0.2, n=500)
    (reason,) = steady_reasons(state)
    assert reason.code == "load_not_steady"
    assert "0.60 of rate times latency" in reason.detail
    assert steady_reasons(Steadiness(in_flight=3.0, little_ratio=0.6, little_tolerance=0.2, n=MIN_REQUESTS - 1)) == ()


@pytest.mark.parametrize(
    ("n", "spec", "why"),
    [
        (MIN_REQUESTS - 1, CLOSED, "too few"),
        (400, LoadSpec(mode="steps", steps=((1.0, 2.0),)), "by design"),
        (400, LoadSpec(mode="trace"), "by design"),
    ],
)
def test_what_cannot_be_tested_is_not_flagged_and_says_why(state_of, n, spec, why):
    state = state_of((np.arange(float(n)), np.linspace(0.1, 9.0, n), (0.0, float(n))), spec)
    assert state.drift_pct is None
    assert why in state.why_not
    assert steady_reasons(state) == ()
    found = {item.metric: item for item in steady_metrics(state)}
    assert found["requests_in_flight"].value > 0
    assert why in found["load_drift_pct"].absent_reason


@pytest.mark.parametrize("window", [(5 * SECOND, 5 * SECOND), (900 * SECOND, 901 * SECOND)])
def test_a_window_without_requests_has_no_state(load_table, window):
    state = steadiness(load_arrays(load_table({}, {"start": 40.0})), CLOSED, window)
    assert [item.value for item in steady_metrics(state)] == [None] * 3
    assert steady_reasons(state) == ()


def test_failed_and_untimed_requests_are_left_out(load_table):
    table = load_table({"sent_at_ns": None}, {"status": "error", "error_class": "reset"}, {"start": 10.0})
    state = steadiness(load_arrays(table), CLOSED, (0, SECOND))
    assert state.n == 1
    assert state.in_flight == pytest.approx(0.016)


def test_in_flight_agrees_with_sampling(state_of):
    rng = np.random.default_rng(3)
    starts, times = np.sort(rng.uniform(0, 100, 300)), rng.exponential(4, 300)
    state = state_of((starts, times, (20.0, 90.0)), OPEN)
    at = np.linspace(20, 90, 20_001)
    sampled = ((starts[:, None] <= at) & (at < (starts + times)[:, None])).sum(0).mean()
    assert state.in_flight == pytest.approx(sampled, rel=2e-3)


@given(st.lists(st.floats(0.1, 100), min_size=8, max_size=20), st.floats(0.5, 20), st.floats(-50, 50))
def test_a_trend_scales_with_the_values_and_turns_with_time(values, factor, shift):
    values = np.array(values)
    found, scaled, turned = trend(values), trend(values * factor + shift), trend(values[::-1])
    assert 0 <= found.p <= 1
    assert scaled.rise == pytest.approx(found.rise * factor, rel=1e-6, abs=1e-6)
    assert turned.rise == pytest.approx(-found.rise, rel=1e-9, abs=1e-9)


def test_a_straight_line_is_its_own_trend():
    found = trend(np.linspace(2.0, 5.0, 10))
    assert (found.rise, found.first) == pytest.approx((3.0, 2.0))
    assert found.p < 1e-3
    flat = trend(np.full(10, 7.0))
    assert (flat.rise, flat.first, flat.p) == (0.0, 7.0, 1.0)


def test_neighbours_that_resemble_each_other_are_no_trend():
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(500):
        values = [rng.normal()]
        for _ in range(19):
            values.append(0.6 * values[-1] + rng.normal(0, 0.8))
        alarms += trend(np.array(values)).p < 0.01
    assert alarms / 500 < 0.08  # 0.126 by the plain test
