"""The roofline: how near each layer is to what the GPU could do at its arithmetic intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_ci.layers.roofline import LayerRoofline, Roofline
from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.layers import short_name
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import hover, log_axis, text_array
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE, PURPLE, TEAL

if TYPE_CHECKING:
    import plotly.graph_objects as go

_LOOKS = ((BLUE, "circle"), (ORANGE, "diamond"), (TEAL, "square"), (PURPLE, "triangle-up"))
OTHER = (GREY, "cross")
SMALLEST_PX, LARGEST_PX = 7.0, 42.0
LARGE_SHARE_PCT = 20.0
"""Share of time that has the largest bubble, unless a layer has more."""
ROOM = 1.6
"""Room between the outermost point and the edge of the plot."""
TERA = 1e12


def drawn(roof: Roofline) -> list[LayerRoofline]:
    """Return the layers that have a place on the plot: with operations, traffic and time."""
    return [item for item in roof.layers if item.intensity and item.achieved_flop_s]


def rooflines(roof: Roofline, *, revision: str) -> go.Figure | None:
    """Return the layers on logarithmic axes, a roof for each datatype; ``None`` where there is nothing to draw.

    Args:
        roof: Layers under the peaks of one GPU.
        revision: See ``Sketch``.
    """
    points = drawn(roof)
    if roof.gpu is None or roof.gpu.dram_bytes_per_s is None or not points:
        return None
    bandwidth = roof.gpu.dram_bytes_per_s
    peaks = _peaks(points)
    intensities = [item.intensity or 1.0 for item in points]
    low = min(intensities) / ROOM
    high = max(*intensities, *(peak / bandwidth for peak in peaks.values()), low) * ROOM**2
    floor = min(*(item.achieved_flop_s or 1.0 for item in points), low * bandwidth) / ROOM
    top = max(*peaks.values(), *(item.achieved_flop_s or 1.0 for item in points)) * ROOM
    sketch = Sketch(title=f"Roofline of {roof.gpu.name}", revision=revision, height=460, top_px=72, right_px=16)
    _add_roofs(sketch, peaks, bandwidth, low, high)
    whole = sum(item.layer.time_ns or 0 for item in roof.layers) or 1
    shares = {item.layer.index: 100 * (item.layer.time_ns or 0) / whole for item in points}
    for dtype in peaks:
        mine = [item for item in points if (item.layer.dtype or "unknown") == dtype]
        _add_layers(sketch, mine, dtype, shares, _look(dtype, peaks))
    x_range, y_range = (_exponents(low, high), _exponents(floor / TERA, top / TERA))
    sketch.axis("xaxis", "arithmetic intensity (operations per byte)", range=x_range, **log_axis(low, high))
    sketch.axis("yaxis", "reached (TFLOP/s), higher is better ↑", range=y_range, **log_axis(floor / TERA, top / TERA))
    return sketch.figure()


def _exponents(low: float, high: float) -> list[float]:
    return [math.log10(low), math.log10(high)]


def _peaks(points: Sequence[LayerRoofline]) -> dict[str, float]:
    """Return dtype → peak, the dtype with most time first; the largest one where kernels of a dtype have several."""
    spent: dict[str, int] = {}
    found: dict[str, float] = {}
    for item in points:
        dtype = item.layer.dtype or "unknown"
        spent[dtype] = spent.get(dtype, 0) + (item.layer.time_ns or 0)
        found[dtype] = max(found.get(dtype, 0.0), item.peak_flop_s or 0.0)
    return {dtype: found[dtype] for dtype in sorted(found, key=lambda dtype: (-spent[dtype], dtype))}


def _look(dtype: str, peaks: dict[str, float]) -> tuple[str, str]:
    place = list(peaks).index(dtype)
    return _LOOKS[place] if place < len(_LOOKS) else OTHER


def _add_roofs(sketch: Sketch, peaks: dict[str, float], bandwidth: float, low: float, high: float) -> None:
    ridge = max(peaks.values()) / bandwidth
    slope = {"color": GREY, "width": 2, "dash": "dash"}
    sketch.trace("scatter", x=np.array([low, ridge]), y=np.array([low, ridge]) * bandwidth / TERA, mode="lines",
                 line=slope, name=f"memory {bandwidth / TERA:.3g} TB/s", hoverinfo="skip")  # fmt: skip
    for dtype, peak in peaks.items():
        colour, _ = _look(dtype, peaks)
        ends = np.array([min(peak / bandwidth, high), high])
        sketch.trace("scatter", x=ends, y=np.full(2, peak / TERA), mode="lines", line={"color": colour, "width": 2},
                     showlegend=False, hoverinfo="skip")  # fmt: skip
    for peak in dict.fromkeys(peaks.values()):
        # Datatypes of one peak (fp16 and bf16) have one name, or their words would lie on each other.
        dtypes = [dtype for dtype in peaks if peaks[dtype] == peak]
        tint = _look(dtypes[0], peaks)[0] if len(dtypes) == 1 else None
        sketch.note(f"{', '.join(dtypes)} {fmt.number(peak / TERA, 3)} TFLOP/s", tint, x=math.log10(high),
                    xanchor="right", y=math.log10(peak / TERA), yanchor="bottom")  # fmt: skip


def _add_layers(
    sketch: Sketch, points: Sequence[LayerRoofline], dtype: str, all_shares: dict[int, float], look: tuple[str, str]
) -> None:
    colour, symbol = look
    shares = np.array([all_shares[item.layer.index] for item in points])
    # The area is the share of time. Engines of many small layers get small bubbles, not a full plot of large ones.
    largest = max(*all_shares.values(), LARGE_SHARE_PCT)
    sizes = np.maximum(LARGEST_PX * np.sqrt(shares / largest), SMALLEST_PX)
    sketch.trace(
        "scatter",
        x=np.array([item.intensity for item in points], dtype=np.float64),
        y=np.array([item.achieved_flop_s for item in points], dtype=np.float64) / TERA,
        mode="markers",
        name=f"{dtype}: {fmt.count(len(points), 'layer')}",
        marker={"size": sizes, "symbol": symbol, "color": colour, "opacity": 0.65,
                "line": {"width": 1.5, "color": colour}},
        hovertext=text_array([_hover(item, share) for item, share in zip(points, shares, strict=True)]),
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip


def _hover(item: LayerRoofline, share_pct: float) -> str:
    layer = item.layer
    reached = "" if item.achieved_pct is None else f", {item.achieved_pct:.0f} % of what is attainable"
    return hover(
        [
            f"<b>{short_name(layer.name, 100)}</b>",
            f"{layer.layer_type or 'layer'}, {layer.dtype or 'unknown'}",
            f"{(layer.time_ns or 0) / 1e3:,.2f} µs, {share_pct:.1f} % of the time",
            f"{fmt.number((item.achieved_flop_s or 0) / TERA, 3)} TFLOP/s at "
            f"{fmt.number(item.intensity, 3)} operations per byte{reached}",
            f"bound by {item.bound}",
            "its data may stay in the L2 cache" if item.may_stay_in_cache else None,
        ]
    )
