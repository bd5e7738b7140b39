"""Which points are on the frontier: nothing that was measured is better in both directions. Pure.

A location alone would call a point beaten by noise, so a beaten point whose interval still reaches past what beats it
is told apart from one that is beaten beyond doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Where a point stands."""

    FRONTIER = "frontier"
    NEAR = "near"
    BEATEN = "beaten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A location and its interval.

    Attributes:
        value: The location.
        low: Lower end of its 95 % interval; ``None`` where no spread is known.
        high: Upper end of the same.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def least(self) -> float:
        """The lower end, or the value where there is none."""
        return self.value if self.low is None else self.low

    @property
    def most(self) -> float:
        """The upper end, or the value where there is none."""
        return self.value if self.high is None else self.high


Point = tuple[Estimate, Estimate]


def standings(points: Sequence[Point]) -> list[Standing]:
    """Return where each point stands; in both directions more is better."""
    return [_standing(point, points) for point in points]


def _standing(point: Point, points: Sequence[Point]) -> Standing:
    better = [other for other in points if _beats(other, point)]
    if not better:
        return Standing.FRONTIER
    return Standing.BEATEN if any(_beats_surely(other, point) for other in better) else Standing.NEAR


def _beats(other: Point, point: Point) -> bool:
    pairs = [(a.value, b.value) for a, b in zip(other, point, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _beats_surely(other: Point, point: Point) -> bool:
    """Return whether ``other`` wins in both directions even where its intervals end and those of ``point`` begin.

    A direction without an interval on either side is decided by the locations, where a draw is a win.
    """
    return all(
        a.least > b.most if a.low is not None or b.high is not None else a.value >= b.value
        for a, b in zip(other, point, strict=True)
    )
