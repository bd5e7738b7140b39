"""Where the time goes inside an engine: its slowest layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import text_array
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 18
NAME_CHARS = 42
COPYING = ("reformat", "reorder", "copy", "transpose", "cast", "shuffle")
"""Layer types that move or convert data and compute nothing."""


def layers(rows: Sequence[Mapping[str, Any]], *, revision: str) -> go.Figure:
    """Return the slowest layers as bars, the rest as one bar.

    Args:
        rows: All layers, slowest first: ``name``, ``layer_type``, ``dtype``, ``tactic``, ``mean_us``.
        revision: See ``Sketch``.
    """
    known = [row for row in rows if row["mean_us"] is not None]
    total = sum(row["mean_us"] for row in known) or 1.0
    shown, rest = known[:SHOWN], known[SHOWN:]
    names = [f"{place + 1}. {short_name(row['name'])}" for place, row in enumerate(shown)]
    values = [row["mean_us"] for row in shown]
    colours = [ORANGE if is_copy(row) else BLUE for row in shown]
    told = [_hover(row, total) for row in shown]
    if rest:
        names.append(f"the other {len(rest)}")
        values.append(sum(row["mean_us"] for row in rest))
        colours.append(GREY)
        told.append(f"{fmt.count(len(rest), 'layer')}: {sum(row['mean_us'] for row in rest):.1f} µs")
    sketch = Sketch(title="Slowest layers", revision=revision, height=120 + 24 * len(names), top_px=40, right_px=56)
    sketch.trace(
        "bar",
        x=np.array(values),
        y=text_array(names),
        orientation="h",
        marker={"color": colours},
        text=text_array([f"{value / total * 100:.1f} %" for value in values]),
        textposition="outside",
        cliponaxis=False,
        hovertext=text_array(told),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    sketch.axis("xaxis", "mean time of one call (µs), lower is better ↓")
    sketch.axis("yaxis", autorange="reversed")
    return sketch.figure()


def is_copy(row: Mapping[str, Any]) -> bool:
    """Return whether a layer only moves or converts data."""
    kind = (row["layer_type"] or row["name"] or "").lower()
    return any(word in kind for word in COPYING)


def short_name(name: str) -> str:
    """Return a layer's name, its middle left out where it is long."""
    if len(name) <= NAME_CHARS:
        return name
    half = (NAME_CHARS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _hover(row: Mapping[str, Any], total: float) -> str:
    parts = [row["name"], row["layer_type"], row["dtype"], row["tactic"]]
    lines = "<br>".join(str(part) for part in parts if part)
    return f"{lines}<br><b>{row['mean_us']:.2f} µs</b>, {row['mean_us'] / total * 100:.1f} %"
