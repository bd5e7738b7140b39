"""Axes that points decide and not their widest interval, and words for the points that have room for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from enginewatch_dashboards.figures.sketch import Part
from enginewatch_dashboards.figures.style import log_axis
from enginewatch_dashboards.pareto import Estimate

WIDE = 15.0
"""Largest over smallest value from which an axis is logarithmic."""
BEYOND, LOG_BEYOND = 2.5, 5.0
"""An axis ends at this many times its outermost value at the latest: the interval of two runs may reach a thousand
times as far and would press all points together."""
ROOM, LOG_ROOM = 1.06, 1.25
"""Room between the outermost end and the edge of the plot."""
NEAR_X, NEAR_Y = 0.03, 0.06
"""Shares of an axis within which two words would lie on each other."""


def is_wide(values: Sequence[float]) -> bool:
    """Return whether values span so much that only a logarithmic axis shows them all."""
    return bool(values) and min(values) > 0 and max(values) > WIDE * min(values)


def axis(found: Sequence[Estimate], *, limit: float | None = None, log: bool = True) -> tuple[Part, bool]:
    """Return the settings of a value axis, and whether an interval runs off it.

    Args:
        found: What is drawn, with intervals.
        limit: A line that has to be seen.
        log: Whether the axis may be logarithmic.
    """
    values = [one.value for one in found] + ([] if limit is None else [limit])
    if not values:
        return {"rangemode": "tozero"}, False
    most = max(one.most for one in found) if found else max(values)
    if not log or not is_wide(values):
        high = min(max(most, *values), BEYOND * max(values))
        # Zero is the natural end of what cannot be negative.
        return {"range": [0, ROOM * high or 1.0]}, most > high
    least = min(one.least for one in found)
    low = max(min(least, *values), min(values) / LOG_BEYOND)
    high = min(max(most, *values), LOG_BEYOND * max(values))
    ends = [math.log10(low / LOG_ROOM), math.log10(high * LOG_ROOM)]
    return log_axis(low, high) | {"range": ends}, most > high or least < low


def with_room(
    xs: Sequence[float], ys: Sequence[float], x_range: Sequence[float], y_range: Sequence[float]
) -> list[int]:
    """Return the points whose words lie on no earlier point's words.

    Args:
        xs: Places on the x axis, in its own units (logarithms where it is logarithmic).
        ys: The same on the y axis.
        x_range: Ends of the x axis.
        y_range: Ends of the y axis.
    """
    width, height = x_range[1] - x_range[0], y_range[1] - y_range[0]
    chosen: list[int] = []
    for index, (x, y) in enumerate(zip(xs, ys, strict=True)):
        taken = np.array([[abs(x - xs[one]) / width, abs(y - ys[one]) / height] for one in chosen]).reshape(-1, 2)
        if not ((taken[:, 0] < NEAR_X) & (taken[:, 1] < NEAR_Y)).any():
            chosen.append(index)
    return chosen
