"""How much of the GPU one run used, by what counts what: the utilisation rates beside the hardware units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import text_array
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import plotly.graph_objects as go

BARS: tuple[tuple[str, str, str], ...] = (
    ("gpu_busy_time_mean_pct", "GPU busy time (utilisation rate)", ORANGE),
    ("mem_ctrl_busy_time_mean_pct", "memory busy time (utilisation rate)", ORANGE),
    ("sm_active_mean_pct", "SM active", BLUE),
    ("sm_occupancy_mean_pct", "SM occupancy", BLUE),
    ("tensor_active_mean_pct", "tensor pipes active", BLUE),
    ("dram_bw_mean_pct_of_peak", "DRAM bandwidth of its peak", BLUE),
)
"""Metric, words and colour: orange counts time with anything running, blue counts what the units did."""


def utilisation(
    metrics: Sequence[Mapping[str, Any]], *, power_limit_w: float | None, revision: str
) -> go.Figure | None:
    """Return one bar per kind of utilisation over the measuring phase, or ``None`` where there are none.

    Args:
        metrics: ``metric`` and ``value`` of the run.
        power_limit_w: Board power limit; ``None`` where unknown.
        revision: See ``Sketch``.
    """
    values = {row["metric"]: row["value"] for row in metrics if row["value"] is not None}
    bars = [(name, values[key], colour) for key, name, colour in BARS if key in values]
    if not bars:
        return None
    if power_limit_w and "power_mean_w" in values:
        bars.append(("board power of its limit", values["power_mean_w"] / power_limit_w * 100, GREY))
    bars.reverse()
    sketch = Sketch(title="How much of the GPU was used", revision=revision, height=110 + 34 * len(bars), top_px=40)
    sketch.trace(
        "bar",
        x=np.array([value for _, value, _ in bars]),
        y=text_array([name for name, _, _ in bars]),
        orientation="h",
        marker={"color": [colour for _, _, colour in bars]},
        text=text_array([f"{value:.0f} %" for _, value, _ in bars]),
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        showlegend=False,
    )
    sketch.axis("xaxis", "mean over the measuring phase (%)", range=[0, 112], tickvals=[0, 25, 50, 75, 100])
    return sketch.figure()
