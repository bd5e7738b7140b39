"""Serving: which configuration carries the most load within my limit?"""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards import serving
from enginewatch_dashboards.components import frame, serving_charts, serving_head, serving_table
from enginewatch_dashboards.data import Row, Store
from enginewatch_dashboards.state import ServingState, parse

MAX_RUNS = 2_000
THROUGHPUT = {"server": "output_tokens_s", "gpu": "output_tokens_s_per_gpu"}
INTERACTIVITY = "tokens_s_per_user"


def draw(store: Store) -> None:
    """Draw the page."""
    state = serving_head.choose(store, parse(ServingState, st.query_params.to_dict()))
    if state is None:
        return
    rows = _runs(store, state)
    if not rows:
        serving_head.nothing_fits(state)
        return
    limit = serving_head.read_ms(state.slo)
    metric = state.metric or serving_head.METRICS_SHOWN[0]
    met = _met(store, rows, metric, limit)
    lines = serving.configurations(rows, met)
    serving_head.told(lines, rows, metric=metric, limit=limit)
    serving_charts.draw(lines, state=state, metric=metric, limit=limit, throughput=THROUGHPUT[state.per],
                        interactivity=INTERACTIVITY)  # fmt: skip
    serving_table.draw(lines, metric=metric, limit=limit, throughput=THROUGHPUT[state.per], interactivity=INTERACTIVITY)
    if len(rows) == MAX_RUNS:
        st.caption(f"{fmt.count(MAX_RUNS, 'run')} are shown: choose a workload or a session to see the rest.")


def _runs(store: Store, state: ServingState) -> list[Row]:
    chosen = {name: getattr(state, name) for name in ("workload", "model", "device", "precision", "session")}
    rows = store.rows(
        "serving",
        **chosen,
        throughput=THROUGHPUT[state.per],
        interactivity=INTERACTIVITY,
        metric=state.metric or serving_head.METRICS_SHOWN[0],
        limit=MAX_RUNS,
    )
    return [row for row in rows if row["valid"]] if state.counted else rows


def _met(store: Store, rows: list[Row], metric: str, limit: float | None) -> dict[str, float] | None:
    """Return the share of each run's requests (%) that met the limit; ``None`` where no limit was given."""
    if limit is None:
        return None
    found = store.rows("serving_met", runs=[row["run_id"] for row in rows], kind=metric.split("_")[0], slo_ms=limit)
    return {row["run_id"]: row["met"] / row["n"] * 100 for row in found}


frame.show(draw)
