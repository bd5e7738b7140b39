"""How the limits move with the load: the same model at every batch or concurrency of one session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.figures.style import float_array, text_array
from enginewatch_dashboards.theme import BLUE, GREY, ORANGE, PURPLE, TEAL

if TYPE_CHECKING:
    import plotly.graph_objects as go

LINES: tuple[tuple[str, str, str, str], ...] = (
    ("gpu_busy_time_mean_pct", "GPU busy time (utilisation rate)", ORANGE, "dot"),
    ("sm_active_mean_pct", "SM active", BLUE, "solid"),
    ("tensor_active_mean_pct", "tensor active", PURPLE, "solid"),
    ("dram_bw_mean_pct_of_peak", "DRAM bandwidth of its peak", TEAL, "solid"),
)
"""Metric, words, colour, dash."""


def siblings(rows: Sequence[Mapping[str, Any]], *, revision: str) -> go.Figure | None:
    """Return the utilisation of each case by load, or ``None`` where fewer than two cases have it.

    Args:
        rows: Rows of the query ``run_siblings``; the case that the page is about has ``here``.
        revision: See ``Sketch``.
    """
    mine = next((row for row in rows if row["here"]), None)
    shown = [row for row in rows if _belongs(row, mine) and any(row[key] is not None for key, *_ in LINES)]
    if mine is None or len(shown) < 2:
        return None
    shown.sort(key=lambda row: row["concurrency"] or row["batch"] or 0)
    names = text_array([_load(row) for row in shown])
    sketch = Sketch(title="What moves with the load", revision=revision, height=330, top_px=84)
    for key, words, colour, dash in LINES:
        values = float_array([row[key] for row in shown])
        if np.isfinite(values).any():
            sketch.trace(
                "scatter",
                x=names,
                y=values,
                mode="lines+markers",
                name=words,
                line={"color": colour, "dash": dash, "width": 2},
                customdata=text_array([row["run_id"] for row in shown]),
                hovertemplate=f"{words}: %{{y:.0f}} %<extra></extra>",
            )
    # A category axis counts its categories: the text "64" would be taken as the place 64.
    place = next(place for place, row in enumerate(shown) if row["here"])
    sketch.rule(x=place, colour=GREY, dash="solid", width=12, opacity=0.25)
    kind = "batch" if mine["concurrency"] is None else "concurrency"
    sketch.axis("xaxis", f"{kind}; grey: this run", type="category")
    sketch.axis("yaxis", "mean over the measuring phase (%)", range=[0, 105])
    return sketch.figure()


def _belongs(row: Mapping[str, Any], mine: Mapping[str, Any] | None) -> bool:
    return (
        mine is not None
        and row["precision"] == mine["precision"]
        and (row["concurrency"] is None) is (mine["concurrency"] is None)
        and row["backend"] == mine["backend"]
    )


def _load(row: Mapping[str, Any]) -> str:
    return str(row["concurrency"] or row["batch"] or row["case_key"].rsplit("/", 1)[-1])
