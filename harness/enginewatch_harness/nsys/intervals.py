"""Intervals on a line: union, gaps, overlap. Pure; all bounds are integers, so all sums are exact."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[int, int]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union as disjoint intervals in order; those that touch become one, empty ones go."""
    found: list[Interval] = []
    for start, end in sorted(interval for interval in intervals if interval[1] > interval[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def length(disjoint: Iterable[Interval]) -> int:
    """Return the sum of lengths of disjoint intervals."""
    return sum(end - start for start, end in disjoint)


def gaps(disjoint: list[Interval], window: Interval) -> list[Interval]:
    """Return what of ``window`` disjoint intervals in order leave free."""
    found, at = [], window[0]
    for start, end in disjoint:
        if start > at:
            found.append((at, min(start, window[1])))
        at = max(at, end)
    if at < window[1]:
        found.append((at, window[1]))
    return [(start, end) for start, end in found if end > start]


def overlap(one: list[Interval], other: list[Interval]) -> int:
    """Return the length that two lists of disjoint intervals in order have in common."""
    total = i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        total += max(0, high - low)
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return total
