"""Throughput against interactivity: which loads are worth offering, and which are beaten in both. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A value over the runs of a level, with its interval.

    Attributes:
        value: Location over the runs.
        low: Lower end of the 95 % interval; ``None`` with a single run.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """One level of load and what it brings.

    Attributes:
        level: Streams, or requests per second.
        throughput: Output tokens per second of all users.
        interactivity: Tokens per second of one user.
        runs: Valid runs behind it.
    """

    level: float
    throughput: Located
    interactivity: Located
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An operating point and its place.

    Attributes:
        point: The point.
        dominated_by: The level that brings more of both; ``None`` on the frontier.
        clear: Whether the intervals say so too: without it, a repeat may put the point on the frontier.
    """

    point: Operating
    dominated_by: float | None
    clear: bool


def frontier(points: Sequence[Operating]) -> tuple[Placed, ...]:
    """Return every point with its place, ascending by level; the Pareto frontier is what nothing dominates.

    A point dominates another when it is at least as good in both and better in one. Dominated points stay: they
    show what overload costs.
    """
    return tuple(_place(point, points) for point in sorted(points, key=lambda point: point.level))


def _place(point: Operating, points: Sequence[Operating]) -> Placed:
    better = [other for other in points if _dominates(other, point)]
    if not better:
        return Placed(point=point, dominated_by=None, clear=all(_apart(point, o) for o in points if o is not point))
    best = max(better, key=lambda other: (other.throughput.value, other.interactivity.value))
    return Placed(point=point, dominated_by=best.level, clear=any(_surely(other, point) for other in better))


def _dominates(a: Operating, b: Operating) -> bool:
    mine = (a.throughput.value, a.interactivity.value)
    other = (b.throughput.value, b.interactivity.value)
    return mine != other and all(x >= y for x, y in zip(mine, other, strict=True))


def _above(a: Located, b: Located) -> bool:
    """Return whether the interval of ``a`` lies above that of ``b``; a single run has none and says nothing."""
    return a.low is not None and b.high is not None and a.low > b.high


def _surely(a: Operating, b: Operating) -> bool:
    return _above(a.throughput, b.throughput) and _above(a.interactivity, b.interactivity)


def _apart(a: Operating, b: Operating) -> bool:
    """Return whether ``a`` is better than ``b`` in one of the two for certain."""
    return _above(a.throughput, b.throughput) or _above(a.interactivity, b.interactivity)
