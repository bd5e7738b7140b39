"""Which part of a load its rates count over, and what arrived in it; the cut against loads of a known rate."""

import heapq

import numpy as np
import pyarrow as pa
import pytest

from enginewatch_harness.load.arrays import load_arrays
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.window import count_arrivals, cut, totals

MS = 1_000_000
TTFT_S, PER_TOKEN_S, TOKENS = 0.25, 1 / 16, 16


def test_tokens_count_where_they_arrive_not_where_they_start(load_table):
    table = load_table(
        {"start": 0, "ttft": 50, "gaps": (40.0, 20.0, 20.0), "phase": "warmup"},  # at 50, 90, 110, 130
        {"start": 150, "ttft": 40, "gaps": (5.0, 10.0), "phase": "measure"},  # at 190, 195, 205
        {"start": 210, "ttft": 1, "gaps": (1.0,), "phase": "drain"},
    )
    counted = totals(table, (100 * MS, 200 * MS))
    assert counted.output_tokens == 4
    assert counted.input_tokens == 20  # only request 1 began to answer inside
    assert counted.completed == 1  # only request 0 ended inside
    assert counted.window_s == pytest.approx(0.1)


def test_the_window_has_an_inclusive_start_and_an_exclusive_end(load_table):
    table = load_table({"start": 0, "ttft": 100, "gaps": (50.0, 50.0)})
    assert totals(table, (100 * MS, 200 * MS)).output_tokens == 2
    assert totals(table, (100 * MS + 1, 200 * MS + 1)).output_tokens == 2


def test_without_gaps_tokens_are_spread_from_the_first_to_the_last(load_table):
    streamed = {"start": 0, "ttft": 100, "gaps": (50.0, 50.0, 50.0, 50.0)}  # at 100, 150, ... 300
    for window in ((0, 400), (100, 300), (100, 301), (101, 200), (150, 151), (250, 260), (301, 400), (0, 100)):
        window_ns = (window[0] * MS, window[1] * MS)
        exact = totals(load_table(streamed), window_ns)
        spread = totals(load_table({**streamed, "itl_ns": None}), window_ns)
        assert spread == exact, window


def test_without_times_the_requests_of_the_measuring_phase_count(load_table):
    untimed = {"sent_at_ns": None, "itl_ns": None}
    counted = totals(load_table(untimed, {**untimed, "phase": "warmup"}), (0, 1000 * MS))
    assert (counted.completed, counted.output_tokens, counted.input_tokens) == (1, 4, 20)


def closed_load(timed_table, *, streams, requests, warmup, spread, seed, shares=1):
    """Simulate a closed loop; ``shares`` processes each send their own part of the requests."""
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(np.log1p(spread**2))
    free = [(0.0, stream % shares, stream) for stream in range(streams)]
    heapq.heapify(free)
    left = [(requests + warmup) // shares] * shares
    rows, sent = [], 0
    while free:
        start, share, stream = heapq.heappop(free)
        if not left[share]:
            continue
        left[share] -= 1
        tokens = max(2, round(TOKENS * rng.lognormal(-sigma * sigma / 2, sigma)))
        length = TTFT_S + (tokens - 1) * PER_TOKEN_S
        rows.append((start, share, stream, tokens, length))
        sent += 1
        heapq.heappush(free, (start + length, share, stream))
    start, share, stream, tokens, length = (np.array(column) for column in zip(*rows, strict=True))
    begin = start[warmup]
    gaps = pa.array([[round(PER_TOKEN_S * 1e9)] * (int(count) - 1) for count in tokens], pa.list_(pa.int64()))
    table = timed_table(
        start,
        length,
        begin,
        np.inf,
        open_loop=False,
        ttft_ns=np.full(start.size, round(TTFT_S * 1e9)),
        itl_ns=gaps,
        output_tokens=tokens.astype(np.int32),
        content_events=tokens.astype(np.int32),
        stream=(stream // shares).astype(np.int32),
        process=share.astype(np.int16),
    )
    long_run = np.maximum(2, np.round(TOKENS * rng.lognormal(-sigma * sigma / 2, sigma, 200_000)))
    true_rate = streams * long_run.mean() / (TTFT_S + (long_run.mean() - 1) * PER_TOKEN_S)
    window = (round(begin * 1e9), round(float((start + length).max()) * 1e9) + 1)
    return table, window, true_rate


def rate(arrays, window_ns):
    counted = count_arrivals(arrays, window_ns)
    return counted.output_tokens / counted.window_s


@pytest.mark.parametrize(
    ("streams", "requests", "warmup", "spread", "shares", "before", "after"),
    [
        (16, 64, 0, 0.5, 1, (-0.26, -0.12), 0.05),
        (16, 160, 48, 0.5, 1, (-0.12, -0.04), 0.01),
        (64, 640, 128, 1.0, 1, (-0.35, -0.15), 0.02),
        (64, 640, 128, 0.5, 4, (-0.20, -0.05), 0.02),
        (16, 160, 0, 0.0, 1, (-0.001, 0.001), 0.001),
    ],
)
def test_the_ramp_down_no_longer_biases_the_rate(timed_table, streams, requests, warmup, spread, shares, before, after):
    spec = LoadSpec(mode="closed", concurrency=streams, requests=requests)
    uncut, cut_off = [], []
    for seed in range(20):
        table, window_ns, true_rate = closed_load(
            timed_table, streams=streams, requests=requests, warmup=warmup, spread=spread, seed=seed, shares=shares
        )
        arrays = load_arrays(table)
        window = cut(arrays, spec, window_ns)
        assert window.note is None
        uncut.append(rate(arrays, window_ns) / true_rate - 1)
        cut_off.append(rate(arrays, (window.begin_ns, window.end_ns)) / true_rate - 1)
    assert before[0] <= np.mean(uncut) <= before[1]
    assert abs(np.mean(cut_off)) <= after


def test_the_closed_loop_is_cut_when_its_first_stream_falls_idle(load_table):
    table = load_table(
        {"start": 0, "ttft": 90, "gaps": (10.0,), "stream": 0},
        {"start": 0, "ttft": 90, "gaps": (60.0,), "stream": 1},
        {"start": 100, "ttft": 90, "gaps": (110.0,), "stream": 0},  # to 300
        {"start": 150, "ttft": 90, "gaps": (10.0,), "stream": 1},  # to 250: then nothing is left
    )
    spec = LoadSpec(mode="closed", concurrency=2, requests=4)
    window = cut(load_arrays(table), spec, (0, 300 * MS + 1))
    assert (window.begin_ns, window.end_ns) == (0, 250 * MS + 1)


def test_the_open_loop_is_cut_at_its_last_send(load_table):
    table = load_table(*({"start": at, "intended_at_ns": at * MS, "stream": None} for at in (0, 40, 90, 130)))
    spec = LoadSpec(mode="poisson", rate_rps=25.0, concurrency=8, requests=4)
    assert cut(load_arrays(table), spec, (0, 200 * MS)).end_ns == 130 * MS


def test_a_load_of_a_given_duration_is_not_cut(load_table):
    arrays = load_arrays(load_table({"stream": 0}, {"stream": 1, "start": 50}))
    assert cut(arrays, LoadSpec(mode="closed", concurrency=2), (0, 500 * MS)).end_ns == 500 * MS


def test_a_level_held_for_less_than_a_request_is_none(load_table):
    table = load_table({"ttft": 50, "stream": 0}, {"ttft": 194, "stream": 1})  # to 56 and to 200
    spec = LoadSpec(mode="closed", concurrency=2, requests=2)
    window = cut(load_arrays(table), spec, (0, 200 * MS + 1))
    assert window.end_ns == 200 * MS + 1
    assert "ramp-down" in window.note


@pytest.mark.parametrize("streams", [[0, 1, 2], [0, 1, 0]])
def test_a_load_that_never_held_its_level_is_whole_and_says_so(load_table, streams):
    table = load_table(*({"start": 0, "ttft": 50, "stream": stream} for stream in streams))
    window = cut(load_arrays(table), LoadSpec(mode="closed", concurrency=4, requests=3), (0, 60 * MS))
    assert window.end_ns == 60 * MS
    assert "ramp-down" in window.note


def test_a_stream_that_ends_with_a_failure_does_not_end_the_window(load_table):
    table = load_table(
        {"start": 0, "ttft": 90, "stream": 0},
        {"start": 0, "stream": 1, "status": "error", "error_class": "timeout"},
        {"start": 96, "ttft": 90, "stream": 0},
    )
    window = cut(load_arrays(table), LoadSpec(mode="closed", concurrency=2, requests=3), (0, 500 * MS))
    assert window.end_ns == (96 + 90 + 6) * MS + 1


@pytest.mark.parametrize("requests", [[], [{"sent_at_ns": None}]])
def test_nothing_to_cut_by(load_table, requests):
    spec = LoadSpec(mode="closed", requests=5)
    assert cut(load_arrays(load_table(*requests)), spec, (0, 100)).end_ns == 100
    assert cut(load_arrays(load_table(*requests)), spec, (100, 0)).length_ns == 0
