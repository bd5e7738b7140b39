"""The samples of a run: in their order, and as a distribution."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.inputs import switch
from enginewatch_dashboards.components.run_data import RunData, as_rows
from enginewatch_dashboards.figures import samples as figures
from enginewatch_dashboards.state import RunState

BUCKETS = 500
"""Buckets of the decimation: at most four points each, so at most 2,000 a chart."""
POINTS, TAIL = 400, 100
BINS = 60
KINDS = {"latency": "latency", "ttft": "time to first token", "itl": "gap between tokens", "e2e": "end-to-end time"}
SIDE_PX = 420


def samples(data: RunData, state: RunState) -> None:
    """Draw the samples of an engine run, or the token times of a server run."""
    kinds = [kind for kind in KINDS if _has(data, kind)]
    if not kinds:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Samples" if kinds == ["latency"] else "Tokens", width="stretch")
        as_rows(data, *(("latency_samples", "start_ns") if "latency" in kinds else ("llm_requests", "request_idx")))
        dist = switch("Distribution", ("histogram", "ecdf"), param="dist", value=state.dist,
                      words={"histogram": "histogram", "ecdf": "cumulative"})  # fmt: skip
    grid = st.grid(3 if len(kinds) > 2 else 2, min_column_width=SIDE_PX)
    for kind in kinds:
        if kind == "latency":
            with grid.cell():
                _in_order(data)
        with grid.cell():
            _distribution(data, kind, dist)


def _has(data: RunData, kind: str) -> bool:
    return any(row["metric"].startswith(f"{kind}_p") and row["value"] is not None for row in data.metrics)


def _in_order(data: RunData) -> None:
    points = data.store.columns("samples", run=data.run_id, buckets=BUCKETS)
    if not points["t_s"].size:
        return
    marks = figures.quantiles_of(data.metrics, "latency")
    n = next((row["n"] for row in data.metrics if row["metric"] == "latency_p50_ms"), None) or points["t_s"].size
    figure = figures.in_order(points, marks, what="latency", n=n, revision=f"{data.run_id}/order")
    largest = fmt.number(float(points["value"].max()))
    chart(figure, key="samples", alt=f"{n:,} latencies in the order of measuring; {_told(marks)}, largest {largest} ms")


def _distribution(data: RunData, kind: str, dist: str) -> None:
    marks, revision = figures.quantiles_of(data.metrics, kind), f"{data.run_id}/{kind}/{dist}"
    ends = figures.ends_of(data.metrics, kind)
    alt, log = f"{KINDS[kind]}: {_told(marks)}", figures.is_skewed(marks)
    if dist == "ecdf":
        values = data.store.columns("values", run=data.run_id, kind=kind, points=POINTS, tail=TAIL)
        if values["value"].size:
            figure = figures.ecdf(values, marks, what=KINDS[kind], log=log, ends=ends, revision=revision)
            chart(figure, key=f"{kind}_ecdf", alt=alt)
            return
    bins = data.store.columns("histogram", run=data.run_id, kind=kind, bins=BINS, log=log)
    if bins["bin"].size:
        figure = figures.histogram(bins, marks, what=KINDS[kind], n_bins=BINS, log=log, ends=ends, revision=revision)
        chart(figure, key=f"{kind}_histogram", alt=alt)
        return
    st.caption(f"Only the quantiles of the {KINDS[kind]} were stored: {_told(marks)}.")


def _told(marks: dict[str, float]) -> str:
    return ", ".join(f"{level} {fmt.number(value)} ms" for level, value in marks.items())
