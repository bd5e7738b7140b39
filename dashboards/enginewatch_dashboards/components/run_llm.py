"""The load of a server run: what was offered, how honest the client was, its requests one by one."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.run_data import RunData, as_rows
from enginewatch_dashboards.components.run_trust import GRADES
from enginewatch_dashboards.data import Row, as_json
from enginewatch_dashboards.figures import server as figures
from enginewatch_dashboards.figures.llm import requests
from enginewatch_dashboards.figures.telemetry import Above
from enginewatch_dashboards.load_facts import load_facts
from enginewatch_dashboards.reasons import rejecting

STATED = ":blue-badge[:material/info: known]"
DRAWN, SLOWEST, FAILED = 460, 40, 100
"""Requests that are drawn: every n-th, the slowest, the failed; at most 600."""


def is_load(data: RunData) -> bool:
    """Return whether a run loaded a server."""
    return data.run["load_mode"] is not None


def load(data: RunData) -> None:
    """Draw what is known of the load; nothing for runs of engines."""
    if not is_load(data):
        return
    st.subheader("Load")
    facts = load_facts(data.metrics, data.reasons, as_json(data.run["identity"]))
    lines = [f"{GRADES[f.grade] if f.grade else STATED} **{f.title}** {fmt.plain(f.told)}" for f in facts]
    st.markdown("  \n".join(lines))
    against = rejecting(row["code"] for row in data.reasons)
    if against:
        st.caption(f":red[This run does not count: {', '.join(fmt.plain(code) for code in against)}.] Why, and what to "
                   "do about it, is in the checklist above.")  # fmt: skip


def request_timeline(data: RunData) -> None:
    """Draw the requests; say why where single requests are not stored; nothing for runs of engines."""
    counts = data.store.rows("request_counts", run=data.run_id)
    if not counts and not is_load(data):
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Requests", width="stretch")
        as_rows(data, "llm_requests", "request_idx")
    if not counts:
        st.caption("Single requests were not stored: the tool that measured this run kept only their summary.")
        return
    st.markdown(_told(counts))
    rows = data.store.columns("requests", run=data.run_id, limit=DRAWN, slowest=SLOWEST, failed=FAILED)
    if not rows["place"].size:
        st.caption("The times of single requests were not stored.")
        return
    figure = requests(rows, data.phases, x_range=figures.shown_range(data.phases), revision=f"{data.run_id}/requests")
    total = sum(row["n"] for row in counts)
    chart(
        figure,
        key="requests",
        alt=f"{fmt.count(total, 'request')} on a time axis: waiting for the first token, then decoding",
    )


def _told(counts: list[Row]) -> str:
    parts = []
    for row in counts:
        word = f"{row['n']:,} {row['status']} in {row['phase']}"
        parts.append(f":orange[{word}: {fmt.plain(str(row['error_class']))}]" if row["status"] != "ok" else word)
    return " · ".join(parts)


def panels_above(data: RunData, *, device: str | None) -> Above | None:
    """Return what is drawn above the telemetry of a load run: requests in flight, and what the server said."""
    if not is_load(data):
        return None
    server = data.store.columns("server_samples", run=data.run_id, buckets=figures.BUCKETS)
    in_flight = data.store.columns("in_flight", run=data.run_id, buckets=figures.BUCKETS)
    return figures.above(server, in_flight, data.phases, device=device)


def server_words(data: RunData) -> None:
    """Say what the server did not tell, and why; nothing for runs of engines."""
    if not is_load(data):
        return
    server = data.store.columns("server_samples", run=data.run_id, buckets=figures.BUCKETS)
    if not server["t_s"].size:
        rows = (row for row in data.metrics if row["metric"].startswith("server_"))
        why = next((row["absent_reason"] for row in rows if row["absent_reason"]), "they were not scraped in this run")
        st.caption(f"No metrics of the server itself: {fmt.plain(why)}.")
        return
    names, missing = ", ".join(figures.sources(server)), figures.untold(server)
    told = [f"Server metrics of {fmt.plain(names)}"]
    if missing:
        told.append(f"it does not report {', '.join(missing)}")
    preempted = data.value("server_preemptions")
    if preempted is not None:
        told.append(f"{fmt.count(int(preempted), 'preemption')}")
    st.caption("; ".join(told) + ".")
