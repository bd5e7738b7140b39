"""A Plotly chart with what belongs to it: a stable key, words for those who cannot see it, and its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from enginewatch_dashboards.figures.style import CONFIG

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import pyarrow as pa


def chart(figure: go.Figure, *, key: str, alt: str, table: pa.Table | None = None) -> None:
    """Draw a figure.

    Args:
        figure: What to draw.
        key: Stable name of the chart on its page.
        alt: What it shows, in a sentence.
        table: The same values as a table, folded below it.
    """
    st.plotly_chart(figure, key=key, alt=alt, config=CONFIG)
    if table is not None:
        twin(table, key=key, alt=alt)


def clickable(figure: go.Figure, *, key: str, alt: str) -> str | None:
    """Draw a figure and return the custom data of the point that was clicked, if one was."""
    event: Any = st.plotly_chart(figure, key=key, alt=alt, config=CONFIG, on_select="rerun", selection_mode="points")
    points = event.selection.points if event else []
    data = points[0].get("customdata") if points else None
    if isinstance(data, list):
        data = data[0] if data else None
    return str(data) if data else None


def twin(table: pa.Table, *, key: str, alt: str) -> None:
    """Show a chart's values as a table, folded."""
    with st.expander("The same as a table", key=f"{key}_table"):
        st.dataframe(table, hide_index=True, alt=f"Table: {alt}")
