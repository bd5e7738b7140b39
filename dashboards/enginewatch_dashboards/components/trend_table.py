"""The Trend as a table: one row per session."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.state import RunState, href
from enginewatch_dashboards.theme import VERDICTS
from enginewatch_dashboards.trends import Change, SessionPoint


def trend_table(points: Sequence[SessionPoint], changes: Sequence[Change], metric: str) -> None:
    """Draw the table, newest session first."""
    changed = {change.place: change.sentence for change in changes}
    unit = fmt.metric_unit(metric)
    value = f"{fmt.metric_label(metric)}{f' ({unit})' if unit else ''}"
    table = as_table(
        points[::-1],
        {
            "Run": lambda point: f"/{href(RunState(id=point.run_id))}",
            "Session": lambda point: point.label + (" (baseline)" if point.is_baseline else ""),
            "Began (UTC)": lambda point: fmt.when(point.started_at),
            value: lambda point: point.value,
            "95 % interval": lambda point: fmt.interval(point.low, point.high) or fmt.ABSENT,
            "Runs that count": lambda point: f"{point.n_valid} of {point.n_runs}",
            "Verdict": lambda point: VERDICTS[verdict].text if (verdict := point.verdict) else "not judged",
            "Why": lambda point: fmt.minus(point.why),
            "Environment changed": lambda point: changed.get(point.place, ""),
            "Commit": lambda point: (point.commit or "")[:10],
            "Host": lambda point: point.host,
        },
    )
    st.dataframe(
        table,
        hide_index=True,
        alt=f"{value} by session, newest first",
        column_config={
            "Run": st.column_config.LinkColumn("Run", display_text=":material/speed:", width=50),
            value: st.column_config.NumberColumn(format="%.5g"),
        },
    )
