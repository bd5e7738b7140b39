"""Sums over intervals, against counting every point."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_harness.nsys.intervals import gaps, length, merged, overlap

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: (min(ends), max(ends))))


def points(intervals) -> set[int]:
    return {at for start, end in intervals for at in range(start, end)}


@settings(max_examples=60, deadline=None)
@given(INTERVALS)
def test_a_union_covers_the_same_points_and_is_disjoint(intervals):
    found = merged(intervals)
    assert points(found) == points(intervals)
    assert length(found) == len(points(intervals))
    assert all(one[1] < other[0] for one, other in pairwise(found))


@settings(max_examples=60, deadline=None)
@given(INTERVALS, st.integers(0, 40), st.integers(0, 40))
def test_gaps_are_what_the_union_leaves_free(intervals, one, other):
    window = (min(one, other), max(one, other))
    assert points(gaps(merged(intervals), window)) == points([window]) - points(intervals)


@settings(max_examples=60, deadline=None)
@given(INTERVALS, INTERVALS)
def test_the_overlap_is_the_common_points(one, other):
    assert overlap(merged(one), merged(other)) == len(points(one) & points(other))
