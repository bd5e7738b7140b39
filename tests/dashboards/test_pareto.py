"""The frontier: nothing on it is beaten, everything else is, and intervals tell how surely."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards.pareto import Estimate, Standing, standings

FRONTIER, NEAR, BEATEN = Standing.FRONTIER, Standing.NEAR, Standing.BEATEN


def point(x, y, spread=None):
    if spread is None:
        return Estimate(value=x), Estimate(value=y)
    return (
        Estimate(value=x, low=x - spread, high=x + spread),
        Estimate(value=y, low=y - spread, high=y + spread),
    )


def test_a_falling_line_is_all_frontier():
    assert standings([point(1, 9), point(5, 5), point(9, 1)]) == [FRONTIER] * 3


def test_what_is_worse_in_both_directions_is_beaten():
    assert standings([point(1, 9), point(5, 5), point(4, 4), point(9, 1)])[2] is BEATEN
    assert standings([point(5, 5), point(5, 4)]) == [FRONTIER, BEATEN]


def test_equal_points_do_not_beat_each_other():
    assert standings([point(2, 2), point(2, 2)]) == [FRONTIER, FRONTIER]


def test_intervals_that_overlap_leave_it_open():
    assert standings([point(10, 10, 1), point(9, 9, 1)]) == [FRONTIER, NEAR]
    assert standings([point(10, 10, 1), point(7, 7, 1)]) == [FRONTIER, BEATEN]
    # Clear in one direction only: the other one may still be a win.
    assert standings([(Estimate(value=10, low=9, high=11), Estimate(value=10, low=9.9, high=10.1)),
                      (Estimate(value=9.5, low=8, high=10), Estimate(value=5, low=4, high=6))])[1] is NEAR  # fmt: skip


@pytest.mark.parametrize("points", [[], [point(1, 1)]])
def test_few_points(points):
    assert standings(points) == [FRONTIER] * len(points)


COORDINATES = st.integers(1, 30).map(float)


@given(st.lists(st.tuples(COORDINATES, COORDINATES, st.none() | st.integers(0, 5).map(float)), max_size=25))
def test_the_frontier_is_what_nothing_dominates(raw):
    points = [point(x, y, spread) for x, y, spread in raw]
    for (x, y, _), standing in zip(raw, standings(points), strict=True):
        dominated = any(a >= x and b >= y and (a, b) != (x, y) for a, b, _ in raw)
        assert (standing is FRONTIER) is not dominated
    if raw:
        assert FRONTIER in standings(points)
