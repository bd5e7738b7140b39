"""What all figures share: sizes, typed arrays, hover text, and gaps drawn as gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
    "toImageButtonOptions": {"scale": 2},
}
"""Plotly's settings: no logo, nothing that sends data away."""

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 15, 13, 12
GAP_FACTOR = 3.0
"""A distance of more than this many usual distances is a gap: one missed tick is not, two are."""


def text_array(values: Sequence[str | None]) -> NDArray[np.object_]:
    """Return strings as an array, as Plotly wants them for hover and custom data."""
    return np.array([value or "" for value in values], dtype=object)


def float_array(values: Sequence[float | None]) -> Floats:
    """Return numbers as an array in which an absent one is NaN: Plotly leaves it out."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def with_gaps(t: Floats, values: Floats, *, bucket: float = 0.0) -> tuple[Floats, Floats]:
    """Return a line with a break wherever readings are missing.

    Args:
        t: Times in ascending order.
        values: One value each.
        bucket: Width of a decimation bucket in the unit of ``t``: closer points are no evidence of a higher rate.
    """
    steps = np.diff(t)
    known = steps[steps > 0]
    if known.size == 0:
        return t, values
    usual = max(float(np.median(known)), bucket)
    breaks = np.flatnonzero(steps > GAP_FACTOR * usual) + 1
    if breaks.size == 0:
        return t, values
    return np.insert(t, breaks, t[breaks - 1] + usual), np.insert(values, breaks, np.nan)


def log_axis(low: float, high: float) -> dict[str, Any]:
    """Return the settings of a logarithmic axis from ``low`` to ``high``.

    Plotly's own ticks between decades are unreadably small.
    """
    steps = (1, 2, 5) if high < 500 * low else (1,)
    ticks = [digit * 10.0**power for power in range(-5, 8) for digit in steps]
    shown = [tick for tick in ticks if low / 2 <= tick <= high * 2]
    names = text_array([f"{tick:g}" for tick in shown])
    return {"type": "log", "tickvals": np.array(shown), "ticktext": names}


def hover(parts: Sequence[str | None]) -> str:
    """Return hover text: one line per part that is there."""
    return "<br>".join(part for part in parts if part)
