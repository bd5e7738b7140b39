"""Where the time goes inside an engine: its slowest layers, and the precisions that it computes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_ci.layers.facts import LayerFacts
from enginewatch_ci.layers.histogram import ConversionCost, PrecisionShare
from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import hover, text_array
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 18
NAME_CHARS = 42
FITS = 2.5
"""The rest is drawn up to this many times the slowest layer: a longer bar would press all others together."""


def layers(found: Sequence[LayerFacts], *, revision: str) -> go.Figure:
    """Return the slowest layers as bars, the rest as one bar, or as words where it is far longer.

    Args:
        found: All layers with a time, the slowest first.
        revision: See ``Sketch``.
    """
    times_us = [(layer.time_ns or 0) / 1e3 for layer in found]
    total = sum(times_us) or 1.0
    shown, rest = found[:SHOWN], times_us[SHOWN:]
    labels = [f"{place + 1}. {short_name(layer.name)}" for place, layer in enumerate(shown)]
    values = times_us[:SHOWN]
    colours = [ORANGE if layer.is_conversion else BLUE for layer in shown]
    told = [_hover(layer, total) for layer in shown]
    if rest:
        labels.append(f"the other {len(rest)}")
        values.append(sum(rest) if sum(rest) <= FITS * values[0] else 0.0)
        colours.append(GREY)
        told.append(f"{fmt.count(len(rest), 'layer')}: {sum(rest):.1f} µs")
    texts = [f"{value / total * 100:.1f} %" for value in (*times_us[:SHOWN], *([sum(rest)] if rest else []))]
    if rest and not values[-1]:
        texts[-1] += " together, beyond the axis"
    sketch = Sketch(title="Slowest layers", revision=revision, height=120 + 24 * len(labels), top_px=40, right_px=56)
    sketch.trace(
        "bar",
        x=np.array(values),
        y=text_array(labels),
        orientation="h",
        marker={"color": colours},
        text=text_array(texts),
        textposition="outside",
        cliponaxis=False,
        hovertext=text_array(told),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    sketch.axis("xaxis", "mean time in one inference (µs), lower is better ↓")
    sketch.axis("yaxis", autorange="reversed")
    return sketch.figure()


def precisions(shares: Sequence[PrecisionShare], conversions: ConversionCost, *, revision: str) -> go.Figure:
    """Return the precisions that an engine computes in, by share of time, and its conversions.

    Args:
        shares: What computes, largest first; only those with a time are drawn.
        conversions: What only moves or converts data.
        revision: See ``Sketch``.
    """
    times_ns = {share.dtype or "unknown": share.time_ns for share in shares if share.time_ns}
    told = [
        hover([f"<b>{share.dtype or 'unknown'}</b>", f"{share.time_ns / 1e3:,.1f} µs",
               fmt.count(share.layers, "layer"),
               None if share.flops_pct is None else f"{share.flops_pct:.1f} % of the known operations"])
        for share in shares if share.time_ns
    ]  # fmt: skip
    colours = [BLUE] * len(times_ns)
    if conversions.time_ns:
        times_ns["conversions"] = conversions.time_ns
        colours.append(ORANGE)
        told.append(hover(["<b>conversions</b>", f"{conversions.time_ns / 1e3:,.1f} µs",
                           fmt.count(conversions.timed_layers, "layer")]))  # fmt: skip
    values = np.array([value or 0 for value in times_ns.values()], dtype=np.float64)
    share_pct = 100 * values / (values.sum() or 1.0)
    sketch = Sketch(title="Realised precision", revision=revision, height=120 + 30 * values.size, top_px=40,
                    right_px=64)  # fmt: skip
    sketch.trace(
        "bar",
        x=share_pct,
        y=text_array(list(times_ns)),
        orientation="h",
        marker={"color": colours},
        text=text_array([f"{value:.1f} %" for value in share_pct]),
        textposition="outside",
        cliponaxis=False,
        hovertext=text_array(told),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    sketch.axis("xaxis", "share of the layers' time (%)", range=[0, 100])
    sketch.axis("yaxis", autorange="reversed")
    return sketch.figure()


def short_name(name: str, limit: int = NAME_CHARS) -> str:
    """Return a layer's name, its middle left out where it is long."""
    if len(name) <= limit:
        return name
    half = (limit - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _hover(layer: LayerFacts, total_us: float) -> str:
    time_us = (layer.time_ns or 0) / 1e3
    return hover(
        [
            short_name(layer.name, 120),
            layer.layer_type,
            layer.dtype,
            layer.tactic,
            f"<b>{time_us:.2f} µs</b>, {time_us / total_us * 100:.1f} %",
        ]
    )
