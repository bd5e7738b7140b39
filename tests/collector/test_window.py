import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.window import (
    NEAREST_NS,
    Series,
    bits_share,
    counter_difference,
    extreme,
    instant_mean,
    instant_weights,
    interval_mean,
    interval_weights,
    missed_share,
    variation,
)

MS = 1_000_000
S = 1_000 * MS


@st.composite
def samples(draw, *, values=None, min_size=1):
    """Return a series at irregular times, and a window that may lie anywhere around it."""
    gaps = draw(st.lists(st.integers(1, 3 * S), min_size=min_size, max_size=40))
    t_ns = np.cumsum(np.array(gaps, dtype=np.int64)) + draw(st.integers(0, 10**15))
    elements = st.floats(-1e6, 1e6) if values is None else values
    found = np.array(draw(st.lists(elements, min_size=len(gaps), max_size=len(gaps))))
    start = draw(st.integers(int(t_ns[0]) - 2 * S, int(t_ns[-1]) + S))
    return Series(t_ns, found), start, start + draw(st.integers(1, 60 * S))


@given(case=samples())
def test_means_lie_between_the_smallest_and_the_largest_sample(case):
    series, start, end = case
    for mean in (interval_mean(series, start, end), instant_mean(series, start, end)):
        if mean.value is None:
            assert mean.why == "no sample in the window"
        else:
            slack = 1e-9 * np.abs(series.values).max() + 1e-12
            assert series.values.min() - slack <= mean.value <= series.values.max() + slack
            assert 1 <= mean.n <= len(series)


@given(case=samples())
def test_weights_never_exceed_the_window(case):
    series, start, end = case
    for weights in (interval_weights(series.t_ns, start, end), instant_weights(series.t_ns, start, end)):
        assert (weights >= 0).all()
        assert weights.sum() <= (end - start) * (1 + 1e-9)
    inside = ((series.t_ns >= start) & (series.t_ns <= end)).any()
    if inside:
        # a state is known everywhere in a window that holds a sample
        assert instant_weights(series.t_ns, start, end).sum() == pytest.approx(end - start)


@given(case=samples(min_size=3), share=st.floats(0.01, 0.99))
def test_means_of_two_halves_make_the_mean_of_the_whole(case, share):
    series, _, _ = case
    start, end = int(series.t_ns[0]), int(series.t_ns[-1])
    middle = start + int(share * (end - start))
    if not start < middle < end:
        return
    left, right, whole = (interval_mean(series, *span) for span in ((start, middle), (middle, end), (start, end)))
    sum_of_parts = left.value * (middle - start) + right.value * (end - middle)
    assert sum_of_parts / (end - start) == pytest.approx(whole.value, rel=1e-6, abs=1e-3)


@given(case=samples(values=st.integers(0, 10**12), min_size=2), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_counter_differences_of_adjacent_windows_add_up(case, shares):
    series, _, _ = case
    series = Series(series.t_ns, np.sort(series.values))
    first, last = int(series.t_ns[0]), int(series.t_ns[-1])
    middle, end = sorted(first + int(share * (last - first)) for share in shares)
    if not first < middle < end:
        return
    parts = [counter_difference(series, a, b).value for a, b in ((first, middle), (middle, end))]
    whole = counter_difference(series, first, end).value
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(whole, rel=1e-9, abs=1e-3)
    assert counter_difference(series, first, last).value == series.values[-1] - series.values[0]


def test_an_interval_is_weighted_by_its_overlap():
    # 10 holds for 0 to 100, 20 for 100 to 200, 30 for 200 to 300 (read after the window)
    series = Series(np.array([100, 200, 300]), np.array([10.0, 20.0, 30.0]))
    assert interval_weights(series.t_ns, 50, 225).tolist() == [50, 100, 25]
    assert interval_mean(series, 50, 225).value == pytest.approx((50 * 10 + 100 * 20 + 25 * 30) / 175)


def test_a_gap_gives_the_interval_after_it_its_true_weight():
    series = Series(np.array([100, 200, 900]), np.array([0.0, 0.0, 100.0]))
    assert interval_mean(series, 0, 900).value == pytest.approx(100 * 700 / 900)


def test_a_state_outside_the_window_does_not_leak_in():
    series = Series(np.array([90, 100, 200, 310]) * MS, np.array([345.0, 1980.0, 1980.0, 345.0]))
    assert instant_mean(series, 95 * MS, 300 * MS).value == 1980
    assert extreme(series, 95 * MS, 300 * MS, largest=False).value == 1980


def test_a_state_that_was_not_read_in_a_short_window_is_taken_from_nearby():
    series = Series(np.array([0, S, 2 * S]), np.array([1.0, 2.0, 3.0]))
    assert instant_mean(series, S + 400 * MS, S + 450 * MS).value == 2
    assert extreme(series, 2 * S + NEAREST_NS, 3 * S + NEAREST_NS, largest=True).value == 3
    assert instant_mean(series, 2 * S + NEAREST_NS + 1, 9 * S).value is None


def test_counter_edges_are_interpolated():
    series = Series(np.array([0, 100, 200]), np.array([1000, 1100, 1300]))
    assert counter_difference(series, 50, 150).value == pytest.approx(50 + 100)


def test_a_counter_that_ran_backwards_inside_the_window_has_no_difference():
    series = Series(np.array([0, 100, 200, 300]), np.array([1000, 1100, 5, 105]))
    why = counter_difference(series, 50, 150).why
    assert why == "the counter ran backwards by 1095"
    assert counter_difference(series, 0, 100).value == 100
    assert counter_difference(series, 200, 300).value == 100


@pytest.mark.parametrize("window", [(-1, 100), (0, 201), (300, 400)])
def test_a_counter_must_be_read_on_both_sides(window):
    series = Series(np.array([0, 200]), np.array([0, 10]))
    assert "both sides" in counter_difference(series, *window).why


def test_large_counters_keep_their_digits():
    start = 2**62
    series = Series(np.array([0, 10**15]), np.array([start, start + 7]))
    assert counter_difference(series, 0, 10**15).value == 7


def test_variation():
    steady = Series(np.arange(20) * S, np.full(20, 1980.0))
    assert variation(steady, 0, 19 * S).value == 0
    halves = Series(np.arange(20) * S, np.repeat([1000.0, 2000.0], 10))
    assert variation(halves, 0, 19 * S).value == pytest.approx(500 / 1500)


def test_bits_share():
    series = Series(np.array([0, 100, 200, 300]), np.array([0x4, 0x5, 0x20, 0x0], dtype=np.uint64))
    # the outer samples hold for half a spacing each
    assert bits_share(series, 0x4, 0, 300).value == pytest.approx(0.5)
    assert bits_share(series, 0x60, 0, 300).value == pytest.approx(1 / 3)


def test_missed_share():
    ticks = np.arange(0, 10 * S, 100 * MS)
    slow = np.arange(5 * MS, 10 * S, S)
    rows = np.sort(np.concatenate([ticks, slow]))
    assert missed_share(rows, 0, 10 * S, 100 * MS) == 0
    fewer = rows[(rows < 2 * S) | (rows >= 4 * S)]
    assert missed_share(fewer, 0, 10 * S, 100 * MS) == pytest.approx(0.2)
    assert missed_share(fewer, 0, 10 * S, None) == pytest.approx(0.2)
    assert missed_share(rows, 10 * S, 20 * S, 100 * MS) == 1
    assert missed_share(rows[:0], 0, S, 100 * MS) == 1
