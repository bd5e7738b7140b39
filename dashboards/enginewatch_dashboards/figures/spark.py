"""The small line in a tile: an SVG, since twelve Plotly charts would cost a second of the browser's time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, PAD = 240, 44, 5


def sparkline(values: Sequence[float], *, colour: str, last_colour: str, reference: float | None = None) -> str:
    """Return an SVG of a few values in order, with the last one marked; empty for fewer than two.

    Args:
        values: Oldest first, finite.
        colour: Of the line.
        last_colour: Of the newest point.
        reference: A level drawn as a dashed line, the baseline.
    """
    if len(values) < 2:
        return ""
    points = _points(values, reference)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points[:-1])
    last_x, last_y = points[-1]
    level = ""
    if reference is not None:
        y = _y(reference, *_span(values, reference))
        ends = f'x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        level = f'<line {ends} stroke="{colour}" stroke-dasharray="3 4" opacity="0.7"/>'
    title = escape(f"{len(values)} sessions, oldest left")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f"<title>{title}</title>{level}"
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>{dots}'
        f'<circle cx="{last_x:.1f}" cy="{last_y:.1f}" r="4" fill="{last_colour}"/></svg>'
    )


def _span(values: Sequence[float], reference: float | None) -> tuple[float, float]:
    known = [*values, *([] if reference is None else [reference])]
    low, high = min(known), max(known)
    # At least 2 % of the level: noise of a quiet series must not look like a mountain.
    least = 0.02 * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        middle = (high + low) / 2
        return middle - least / 2, middle + least / 2
    return low, high


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - PAD - (value - low) / (high - low) * (HEIGHT - 2 * PAD)


def _points(values: Sequence[float], reference: float | None) -> list[tuple[float, float]]:
    low, high = _span(values, reference)
    step = (WIDTH - 2 * PAD) / (len(values) - 1)
    return [(PAD + place * step, _y(value, low, high)) for place, value in enumerate(values)]
