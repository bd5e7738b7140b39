"""The samples of one run: in their order, as a histogram, and as a cumulative distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.style import SMALL_SIZE, new_figure, text_array
from enginewatch_dashboards.theme import BLUE, CRIMSON, ORANGE, PURPLE

Columns = Mapping[str, NDArray[Any]]

MARKS = {"p50": BLUE, "p90": PURPLE, "p99": ORANGE}
"""Quantiles that are marked, and their colours."""
MARK_ROWS_PX = {"p50": 2, "p90": 16, "p99": 30}
"""Height of the words above the plot: one row each, since two quantiles may lie close together."""
MARK_SHIFTS_PX = {"p50": -13, "p90": 0, "p99": 13}
"""Where the words stand beside the plot, for the same reason."""
MARKED_TOP_PX = 88
"""Top margin that holds the title and the rows of words."""


def in_order(samples: Columns, quantiles: Mapping[str, float], *, what: str, n: int, revision: str) -> go.Figure:
    """Return the samples in the order in which they were measured.

    Args:
        samples: ``t_s`` and ``value`` (ms), decimated so that extremes survive.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        n: Samples before decimation.
        revision: See ``style.new_figure``.
    """
    figure = new_figure(f"{what} in the order of measuring", revision=revision)
    figure.add_trace(
        go.Scatter(
            x=np.asarray(samples["t_s"], dtype=np.float64),
            y=np.asarray(samples["value"], dtype=np.float64),
            mode="markers",
            marker={"size": 4, "color": BLUE, "opacity": 0.55},
            hovertemplate="%{y:.4g} ms at %{x:.3f} s<extra></extra>",
            showlegend=False,
        )
    )
    for level, value in quantiles.items():
        figure.add_hline(
            y=value, line={"color": MARKS[level], "width": 1.5, "dash": "solid" if level == "p50" else "dash"}
        )
        figure.add_annotation(
            x=1, xref="paper", y=value, text=level, showarrow=False, xanchor="left", xshift=3,
            yshift=MARK_SHIFTS_PX[level], font={"color": MARKS[level], "size": SMALL_SIZE},
        )  # fmt: skip
    shown = len(samples["t_s"])
    thinned = f" ({shown:,} of {n:,} drawn, extremes kept)" if shown < n else ""
    figure.update_layout(
        xaxis={"title": {"text": f"seconds since the run began{thinned}"}, "showgrid": False},
        yaxis={"title": {"text": f"{what} (ms), lower is better ↓"}},
        margin={"t": MARKED_TOP_PX, "r": 36},
    )
    return figure


def histogram(bins: Columns, quantiles: Mapping[str, float], *, what: str, n_bins: int, revision: str) -> go.Figure:
    """Return a histogram with marked quantiles; what lies above the 99.5 % quantile is one bar at the right.

    Args:
        bins: ``bin``, ``n``, ``low``, ``high``, ``top`` as the query ``histogram`` returns them.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        n_bins: Number of bins that the query was asked for.
        revision: See ``style.new_figure``.
    """
    figure = new_figure(f"Distribution of {what}", revision=revision)
    low, high, top = (float(bins[name][0]) for name in ("low", "high", "top"))
    width = (high - low) / n_bins
    index = np.asarray(bins["bin"], dtype=np.int64)
    counted = np.asarray(bins["n"], dtype=np.int64)
    inside = index < n_bins
    figure.add_trace(
        go.Bar(
            x=low + (index[inside] + 0.5) * width,
            y=counted[inside],
            width=np.full(int(inside.sum()), width),
            marker={"color": BLUE, "line": {"width": 0}},
            hovertemplate="%{x:.4g} ms: %{y:,}<extra></extra>",
            showlegend=False,
        )
    )
    above = int(counted[~inside].sum())
    if above:
        figure.add_trace(
            go.Bar(
                x=np.array([high + 2 * width]),
                y=np.array([above]),
                width=np.array([2 * width]),
                marker={"color": CRIMSON},
                text=text_array([f"{above:,}"]),
                textposition="outside",
                cliponaxis=False,
                showlegend=False,
                hovertemplate=f"{above:,} above {fmt.number(high)} ms, the largest {fmt.number(top)} ms<extra></extra>",
            )
        )
    _mark_vertically(figure, quantiles)
    cut = f"; red: above {fmt.number(high)} ms" if above else ""
    figure.update_layout(
        xaxis={"title": {"text": f"{what} (ms), lower is better ↓{cut}"}},
        yaxis={"title": {"text": "count"}},
        bargap=0,
    )
    return figure


def ecdf(values: Columns, quantiles: Mapping[str, float], *, what: str, revision: str) -> go.Figure:
    """Return the share of samples that is at or below each value.

    Args:
        values: ``value`` (ms) in ascending order with its ``rank`` out of ``n``.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        revision: See ``style.new_figure``.
    """
    figure = new_figure(f"Cumulative distribution of {what}", revision=revision)
    share = np.asarray(values["rank"], dtype=np.float64) / np.asarray(values["n"], dtype=np.float64) * 100
    figure.add_trace(
        go.Scatter(
            x=np.asarray(values["value"], dtype=np.float64),
            y=share,
            mode="lines",
            line={"color": BLUE, "shape": "hv", "width": 2},
            hovertemplate="%{y:.2f} % are at most %{x:.4g} ms<extra></extra>",
            showlegend=False,
        )
    )
    _mark_vertically(figure, quantiles)
    figure.update_layout(
        xaxis={"title": {"text": f"{what} (ms), lower is better ↓"}},
        yaxis={"title": {"text": "share of samples (%)"}, "range": [0, 102]},
    )
    return figure


def _mark_vertically(figure: go.Figure, quantiles: Mapping[str, float]) -> None:
    for level, value in quantiles.items():
        figure.add_vline(x=value, line={"color": MARKS[level], "width": 1.5, "dash": "dash"})
        figure.add_annotation(
            x=value, y=1, yref="paper", text=f"{level} {fmt.number(value)}", showarrow=False, yanchor="bottom",
            yshift=MARK_ROWS_PX[level], font={"color": MARKS[level], "size": SMALL_SIZE},
        )  # fmt: skip
    figure.update_layout(margin={"t": MARKED_TOP_PX})


def quantiles_of(metrics: Sequence[Mapping[str, Any]], stem: str) -> dict[str, float]:
    """Return the marked quantiles that a run has, in ms: ``stem`` is ``latency``, ``ttft`` or ``itl``."""
    values = {row["metric"]: row["value"] for row in metrics}
    found = {level: values.get(f"{stem}_{level}_ms") for level in MARKS}
    return {level: float(value) for level, value in found.items() if value is not None}
