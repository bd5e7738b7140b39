"""The head of the Run page: what it is, its main numbers, and the way to its neighbours."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.links import link, share
from enginewatch_dashboards.components.run_data import RunData
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.data import Row
from enginewatch_dashboards.state import RunsState, RunState, ServingState, TrendState
from enginewatch_dashboards.theme import run_look
from enginewatch_db.quantile import P99_MIN_SAMPLES

MAIN = (
    "latency_p50_ms",
    "latency_p99_ms",
    "ttft_p50_ms",
    "ttft_p99_ms",
    "itl_p50_ms",
    "output_tokens_s",
    "throughput_items_s",
    "sm_active_mean_pct",
    "dram_bw_mean_pct_of_peak",
    "power_mean_w",
)
"""Metrics at the top, in this order, as far as the run has them."""
MAX_MAIN = 7


def head(data: RunData, state: RunState) -> None:
    """Draw the head."""
    run = data.run
    _neighbours(data, state)
    st.title(fmt.plain(run["case_key"]))
    look = run_look(run["status"], valid=run["valid"])
    session = run["label"] or fmt.short(run["session_id"])
    st.markdown(
        f"{badge_text(look)} run {run['repeat'] + 1}{f' of {repeats}' if (repeats := run['repeats']) else ''} "
        f"of session **{fmt.plain(session)}** ({fmt.plain(run['plan_name'])}) · {fmt.when(run['started_at'])} UTC · "
        f"{fmt.plain(fmt.device_label(run['device']))} · host {fmt.plain(run['hostname'])}"
    )
    shown = [row for key in MAIN for row in data.metrics if row["metric"] == key and row["value"] is not None]
    if not shown:
        return
    grid = st.grid(min(len(shown), MAX_MAIN), border=True, min_column_width=165)
    for row in shown[:MAX_MAIN]:
        with grid.cell():
            st.metric(fmt.metric_label(row["metric"]), _value(row), help=_about(row["metric"]))
            st.caption(_small(row))


def _value(row: Row) -> str:
    text = fmt.quantity(row["metric"], row["value"])
    return f"~ {text}" if _is_extreme(row) else text


def _small(row: Row) -> str:
    n = f"n {row['n']:,}" if row["n"] else ""
    if _is_extreme(row):
        n = f"the slowest of {fmt.count(row['n'], _noun(row['metric']))}"
    return " · ".join(filter(None, (fmt.interval(row["ci_low"], row["ci_high"]), n))) or "one value a run"


def _is_extreme(row: Row) -> bool:
    """Return whether a p99 is only the largest of few values: one of them lies beyond it at best."""
    return row["metric"].endswith("_p99_ms") and row["n"] is not None and row["n"] < P99_MIN_SAMPLES


def _noun(metric: str) -> str:
    stem = metric.split("_")[0]
    return "gap" if stem == "itl" else "sample" if stem == "latency" else "request"


def _about(metric: str) -> str:
    from enginewatch_db.metrics import METRICS

    return METRICS[metric].description


def _neighbours(data: RunData, state: RunState) -> None:
    near = data.store.row("run_neighbours", run=data.run_id)
    if near is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for label, target in (("← before", near["before"]), ("after →", near["after"])):
            if target:
                link(label, RunState(id=target, metric=state.metric), icon=False)
        if near["after"] and near["newest"] != near["after"]:
            link("newest", RunState(id=near["newest"]), icon=False)
        st.caption(f"run {near['position']} of {near['n']} of this series")
        st.space("stretch")
        link("Trend", TrendState(case=data.run["case_key"], metric=state.metric))
        if data.run["load_mode"] is not None:
            link("Serving", ServingState(workload=data.run["workload"], model=data.run["model"]))
        link("Session", RunsState(session=data.run["label"] or data.run["session_id"]))
        share(RunState(id=data.run_id, gpu=state.gpu, dist=state.dist))
