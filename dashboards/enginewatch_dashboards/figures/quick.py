"""A first chart of any query result: its first numeric column against its first other one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards.figures.sketch import Sketch
from enginewatch_dashboards.theme import BLUE

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_POINTS = 2_000
MAX_BARS = 60


def numeric_columns(columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return the columns that can be drawn, in their order."""
    return [name for name, values in columns.items() if np.issubdtype(values.dtype, np.number) and values.size]


def quick(columns: Mapping[str, NDArray[Any]], *, y: str, revision: str) -> go.Figure:
    """Return ``y`` against the first column that is a time or a name, else against the row number.

    Args:
        columns: The result, column by column.
        y: A numeric column.
        revision: See ``Sketch``.
    """
    against = next((name for name in columns if name != y and _is_axis(columns[name])), None)
    is_name = against is not None and columns[against].dtype == object
    most = MAX_BARS if is_name else MAX_POINTS
    values = np.asarray(columns[y][:most], dtype=np.float64)
    x = np.arange(values.size) if against is None else columns[against][:most]
    if is_name:
        x = np.array([str(value) for value in x], dtype=object)
    sketch = Sketch(revision=revision, height=340, top_px=16)
    if is_name:
        sketch.trace("bar", x=x, y=values, marker={"color": BLUE})
    else:
        sketch.trace("scatter", x=x, y=values, mode="lines+markers", marker={"size": 5}, line={"color": BLUE})
    cut = f" (first {most:,} rows)" if columns[y].size > most else ""
    sketch.axis("xaxis", (against or "row") + cut)
    sketch.axis("yaxis", y)
    sketch.layout["showlegend"] = False
    return sketch.figure()


def _is_axis(values: NDArray[Any]) -> bool:
    return bool(np.issubdtype(values.dtype, np.datetime64) or values.dtype == object)
