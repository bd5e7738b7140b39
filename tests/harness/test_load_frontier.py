"""The Pareto frontier of throughput and interactivity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.frontier import Located, Operating, frontier


def point(level: float, throughput: float, interactivity: float, half: float | None = None) -> Operating:
    def located(value: float) -> Located:
        return Located(value=value) if half is None else Located(value=value, low=value - half, high=value + half)

    return Operating(level=level, throughput=located(throughput), interactivity=located(interactivity), runs=3)


def test_overload_is_kept_and_marked():
    placed = frontier([point(64, 900, 10, 1), point(1, 100, 99, 1), point(8, 700, 80, 1), point(16, 1000, 60, 1)])
    assert [item.point.level for item in placed] == [1, 8, 16, 64]
    assert [item.dominated_by for item in placed] == [None, None, None, 16]
    assert all(item.clear for item in placed)


def test_within_the_noise_nothing_is_clear():
    placed = frontier([point(16, 1000, 60, 50), point(32, 990, 59, 50)])
    assert [item.dominated_by for item in placed] == [None, 16]
    assert [item.clear for item in placed] == [False, False]


def test_single_runs_have_no_interval_and_claim_nothing():
    placed = frontier([point(16, 1000, 60), point(32, 500, 30)])
    assert placed[1].dominated_by == 16
    assert not placed[1].clear


def test_equal_points_do_not_dominate_each_other():
    placed = frontier([point(1, 10, 10), point(2, 10, 10)])
    assert [item.dominated_by for item in placed] == [None, None]


def test_nothing_in_nothing_out():
    assert frontier([]) == ()


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=20))
def test_the_frontier_is_what_nothing_beats(values):
    points = [point(level, x, y) for level, (x, y) in enumerate(values)]
    placed = frontier(points)
    best = [item.point for item in placed if item.dominated_by is None]
    assert best
    for item in placed:
        beaten = any(
            (x >= item.point.throughput.value and y >= item.point.interactivity.value)
            and (x, y) != (item.point.throughput.value, item.point.interactivity.value)
            for x, y in values
        )
        assert (item.dominated_by is not None) == beaten
