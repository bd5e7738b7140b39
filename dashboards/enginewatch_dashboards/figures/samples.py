"""The samples of one run: in their order, as a histogram, and as a cumulative distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.figures.sketch import Part, Sketch
from enginewatch_dashboards.figures.style import SMALL_SIZE, log_axis
from enginewatch_dashboards.theme import BLUE, CRIMSON, ORANGE, PURPLE

if TYPE_CHECKING:
    import plotly.graph_objects as go

Columns = Mapping[str, NDArray[Any]]
Ends = Mapping[str, tuple[float | None, float | None]]
"""Quantile → the ends of its interval."""

SKEWED = 4.0
"""p99 over p50 from which the axis is logarithmic."""
FILL = "rgba(31, 122, 192, 0.75)"
"""``theme.BLUE``, a little transparent so that the grid shows through."""
MARKS = {"p50": BLUE, "p90": PURPLE, "p99": ORANGE}
"""Quantiles that are marked, and their colours."""
_BANDS = {"p50": "rgba(31, 122, 192, 0.22)", "p90": "rgba(169, 100, 160, 0.22)", "p99": "rgba(217, 102, 15, 0.18)"}
"""``MARKS``, transparent."""
MARK_ROWS_PX = {"p50": 2, "p90": 16, "p99": 30}
"""Height of the words above the plot: one row each, since two quantiles may lie close together."""
MARK_SHIFTS_PX = {"p50": -13, "p90": 0, "p99": 13}
"""Where the words stand beside the plot, for the same reason."""
MARKED_TOP_PX = 98
"""Top margin that holds the title, what lies beyond the axis, and the rows of words."""


def in_order(samples: Columns, quantiles: Mapping[str, float], *, what: str, n: int, revision: str) -> go.Figure:
    """Return the samples in the order in which they were measured.

    Args:
        samples: ``t_s`` and ``value`` (ms), decimated so that extremes survive.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        n: Samples before decimation.
        revision: See ``Sketch``.
    """
    sketch = Sketch(title=f"{what} in the order of measuring", revision=revision, top_px=MARKED_TOP_PX, right_px=36)
    sketch.trace(
        "scatter",
        x=np.asarray(samples["t_s"], dtype=np.float64),
        y=np.asarray(samples["value"], dtype=np.float64),
        mode="markers",
        marker={"size": 4, "color": BLUE, "opacity": 0.55},
        hovertemplate="%{y:.4g} ms at %{x:.3f} s<extra></extra>",
        showlegend=False,
    )
    for level, value in quantiles.items():
        sketch.rule(y=value, colour=MARKS[level], dash="solid" if level == "p50" else "dash")
        sketch.note(level, MARKS[level], x=1, xref="paper", y=value, xanchor="left", xshift=3,
                    yshift=MARK_SHIFTS_PX[level])  # fmt: skip
    shown = len(samples["t_s"])
    thinned = f" ({shown:,} of {n:,} drawn, extremes kept)" if shown < n else ""
    sketch.axis("xaxis", f"seconds since the run began{thinned}", showgrid=False)
    sketch.axis("yaxis", f"{what} (ms), lower is better ↓")
    return sketch.figure()


def histogram(
    bins: Columns,
    quantiles: Mapping[str, float],
    *,
    what: str,
    n_bins: int,
    log: bool = False,
    ends: Ends | None = None,
    revision: str,
) -> go.Figure:
    """Return a histogram with marked quantiles; what lies beyond the axis is told in words.

    Args:
        bins: ``bin``, ``n``, ``low``, ``high``, ``smallest``, ``largest`` as the query ``histogram`` returns them.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        n_bins: Number of bins that the query was asked for.
        log: Whether the bins are equally wide on a logarithmic axis.
        ends: Intervals of the quantiles, drawn as bands.
        revision: See ``Sketch``.
    """
    sketch = Sketch(title=f"Distribution of {what}", revision=revision, top_px=MARKED_TOP_PX)
    low, high = float(bins["low"][0]), float(bins["high"][0])
    edges = np.geomspace(low, high, n_bins + 1) if log else np.linspace(low, high, n_bins + 1)
    index, counted = np.asarray(bins["bin"], dtype=np.int64), np.asarray(bins["n"], dtype=np.int64)
    inside = (index >= 0) & (index < n_bins)
    heights = np.zeros(n_bins + 1)
    heights[index[inside]] = counted[inside]
    # Stairs instead of bars: the width of a bar has no meaning that holds on a logarithmic axis.
    sketch.trace(
        "scatter",
        x=edges,
        y=heights,
        mode="lines",
        line={"shape": "hv", "color": BLUE, "width": 1},
        fill="tozeroy",
        fillcolor=FILL,
        hovertemplate="from %{x:.4g} ms: %{y:,}<extra></extra>",
        showlegend=False,
    )
    _mark_vertically(sketch, quantiles, ends or {}, log=log)
    beyond = {"text": _beyond(bins, n_bins), "font": {"size": SMALL_SIZE, "color": CRIMSON}}
    sketch.layout["title"] = {"subtitle": beyond}
    sketch.axis("xaxis", **_axis(what, edges[0], edges[-1], log=log))
    sketch.axis("yaxis", "count")
    return sketch.figure()


def _beyond(bins: Columns, n_bins: int) -> str:
    """Return in words what lies beyond the axis."""
    counted = {int(place): int(n) for place, n in zip(bins["bin"], bins["n"], strict=True)}
    ends = {name: fmt.number(float(bins[name][0])) for name in ("low", "high", "smallest", "largest")}
    parts = []
    if n_bins in counted:
        parts.append(f"{counted[n_bins]:,} above {ends['high']} (largest {ends['largest']})")
    if -1 in counted:
        parts.append(f"{counted[-1]:,} below {ends['low']} (smallest {ends['smallest']})")
    return f"{' · '.join(parts)} ms" if parts else ""


def _axis(what: str, low: float, high: float, *, log: bool) -> Part:
    title = f"{what} (ms{', logarithmic' if log else ''}), lower is better ↓"
    if not log:
        return {"title": title}
    return {"title": title, **log_axis(low, high)}


def ecdf(
    values: Columns,
    quantiles: Mapping[str, float],
    *,
    what: str,
    log: bool = False,
    ends: Ends | None = None,
    revision: str,
) -> go.Figure:
    """Return the share of samples that is at or below each value.

    Args:
        values: ``value`` (ms) in ascending order with its ``rank`` out of ``n``.
        quantiles: ``p50``, ``p90``, ``p99`` in ms, where known.
        what: Name of the value, for the axis.
        log: Whether the value axis is logarithmic.
        ends: Intervals of the quantiles, drawn as bands.
        revision: See ``Sketch``.
    """
    sketch = Sketch(title=f"Cumulative distribution of {what}", revision=revision, top_px=MARKED_TOP_PX)
    share = np.asarray(values["rank"], dtype=np.float64) / np.asarray(values["n"], dtype=np.float64) * 100
    sketch.trace(
        "scatter",
        x=np.asarray(values["value"], dtype=np.float64),
        y=share,
        mode="lines",
        line={"color": BLUE, "shape": "hv", "width": 2},
        hovertemplate="%{y:.2f} % are at most %{x:.4g} ms<extra></extra>",
        showlegend=False,
    )
    _mark_vertically(sketch, quantiles, ends or {}, log=log)
    sketch.axis("xaxis", **_axis(what, float(values["value"][0]), float(values["value"][-1]), log=log))
    sketch.axis("yaxis", "share of samples (%)", range=[0, 102])
    return sketch.figure()


def is_skewed(quantiles: Mapping[str, float]) -> bool:
    """Return whether the tail is so long that only a logarithmic axis shows both it and the bulk."""
    return {"p50", "p99"} <= set(quantiles) and 0 < SKEWED * quantiles["p50"] < quantiles["p99"]


def _mark_vertically(sketch: Sketch, quantiles: Mapping[str, float], ends: Ends, *, log: bool) -> None:
    for level, value in quantiles.items():
        low, high = ends.get(level, (None, None))
        if low is not None and high is not None:
            sketch.band(_BANDS[level], x0=low, x1=high, xref="x", y0=0, y1=1, yref="paper")
        # Annotations on a logarithmic axis are placed by the logarithm, lines are not.
        place = math.log10(value) if log and value > 0 else value
        sketch.rule(x=value, colour=MARKS[level])
        told = " ".join(filter(None, (level, fmt.number(value), fmt.interval(low, high))))
        sketch.note(told, MARKS[level], x=place, y=1, yref="paper", yanchor="bottom",
                    yshift=MARK_ROWS_PX[level])  # fmt: skip


def quantiles_of(metrics: Sequence[Mapping[str, Any]], stem: str) -> dict[str, float]:
    """Return the marked quantiles that a run has, in ms: ``stem`` is ``latency``, ``ttft``, ``itl`` or ``e2e``."""
    values = {row["metric"]: row["value"] for row in metrics}
    found = {level: values.get(f"{stem}_{level}_ms") for level in MARKS}
    return {level: float(value) for level, value in found.items() if value is not None}


def ends_of(metrics: Sequence[Mapping[str, Any]], stem: str) -> dict[str, tuple[float | None, float | None]]:
    """Return the intervals of the marked quantiles, in ms; an end that is not known is ``None``."""
    rows = {row["metric"]: row for row in metrics}
    found = {level: rows.get(f"{stem}_{level}_ms") for level in MARKS}
    return {level: (row["ci_low"], row["ci_high"]) for level, row in found.items() if row is not None}
