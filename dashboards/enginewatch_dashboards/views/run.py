"""Run: what happened here, and may I trust it?"""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards.components import (
    frame,
    run_choose,
    run_data,
    run_facts,
    run_head,
    run_layers,
    run_llm,
    run_samples,
    run_telemetry,
    run_trust,
)
from enginewatch_dashboards.data import Store
from enginewatch_dashboards.state import RunState, parse
from enginewatch_db.model import RunStatus


def draw(store: Store) -> None:
    """Draw the page."""
    state = parse(RunState, st.query_params.to_dict())
    run_id = run_choose.resolve(store, state.id)
    data = run_data.load(store, run_id) if run_id else None
    if data is None:
        return
    run_head.head(data, state)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        run_trust.trust(data)
    with right:
        run_trust.conclusions(data)
        run_facts.reproduce(data)
    run_facts.metrics_table(data)
    if data.run["status"] == RunStatus.OK:
        run_llm.load(data)
        run_samples.samples(data, state)
        run_llm.request_timeline(data)
        run_telemetry.telemetry(data, state)
        run_telemetry.siblings(data)
        run_layers.accuracy(data)
        run_layers.layers(data)
        run_layers.kernels(data)
    run_facts.provenance(data)
    run_facts.raw(data)


frame.show(draw)
