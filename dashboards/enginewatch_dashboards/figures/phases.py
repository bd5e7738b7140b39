"""The phases of a run as shaded bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.theme import GREY, PHASE_TINTS

MIN_BAND_SHARE = 0.05
"""A phase that is shorter than this share of the run is shaded, but its name would not fit."""


def add_phases(
    sketch: Sketch,
    phases: Sequence[Mapping[str, Any]],
    *,
    words_shift_px: int,
    x_range: tuple[float, float] | None = None,
) -> None:
    """Shade the phases over the whole height of a figure and name those that are wide enough.

    Args:
        sketch: What to draw on.
        phases: ``phase``, ``start_s``, ``end_s``.
        words_shift_px: Distance of the names from the top of the plot; negative for below.
        x_range: The part of the run that is shown first; ``None`` for all of it.
    """
    if not phases:
        return
    low, high = x_range or (min(phase["start_s"] for phase in phases), max(phase["end_s"] for phase in phases))
    for phase in phases:
        tint = PHASE_TINTS.get(phase["phase"], PHASE_TINTS["preflight"])
        sketch.band(tint, x0=phase["start_s"], x1=phase["end_s"], xref="x", y0=0, y1=1, yref="paper")
        begin, end = max(phase["start_s"], low), min(phase["end_s"], high)
        if end - begin > MIN_BAND_SHARE * (high - low):
            middle = (begin + end) / 2
            sketch.note(phase["phase"], GREY, x=middle, xref="x", y=1, yref="paper", yanchor="bottom",
                        yshift=words_shift_px)  # fmt: skip
