"""The requests of a server run."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.run_data import RunData, as_rows
from enginewatch_dashboards.figures.llm import requests

DRAWN, SLOWEST, FAILED = 500, 40, 120
"""Requests that are drawn: every n-th, the slowest, the failed. Three points each: below 2,000 a trace."""


def request_timeline(data: RunData) -> None:
    """Draw the requests; nothing for runs without any."""
    counts = data.store.rows("request_counts", run=data.run_id)
    if not counts:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Requests", width="stretch")
        as_rows(data, "llm_requests", "request_idx")
    st.markdown(_told(counts))
    rows = data.store.columns("requests", run=data.run_id, limit=DRAWN, slowest=SLOWEST, failed=FAILED)
    if not rows["place"].size:
        st.caption("The times of single requests were not stored.")
        return
    figure = requests(rows, data.phases, revision=f"{data.run_id}/requests")
    total = sum(row["n"] for row in counts)
    chart(
        figure,
        key="requests",
        alt=f"{fmt.count(total, 'request')} on a time axis: waiting for the first token, then decoding",
    )


def _told(counts: list[dict[str, object]]) -> str:
    parts = []
    for row in counts:
        word = f"{row['n']} {row['status']} in {row['phase']}"
        parts.append(f":orange[{word}: {fmt.plain(str(row['error_class']))}]" if row["status"] != "ok" else word)
    return " · ".join(parts)
