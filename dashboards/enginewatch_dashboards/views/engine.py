"""Engine: where does the time go inside an engine, and why is another one faster?"""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards.components import engine_diff, engine_facts, engine_head, engine_list, frame
from enginewatch_dashboards.components.engine_data import load
from enginewatch_dashboards.data import Store
from enginewatch_dashboards.state import EngineState, parse


def draw(store: Store) -> None:
    """Draw the page."""
    state = parse(EngineState, st.query_params.to_dict())
    engines = engine_head.available(store, state)
    if not engines:
        engine_head.none(store)
        return
    chosen = engine_head.choose(engines, state)
    if chosen is None:
        return
    engine, case, base = chosen
    data = load(store, engine, case)
    engine_head.head(data, base, state)
    engine_facts.facts(data)
    engine_diff.difference(data, base, state)
    engine_facts.layers(data)
    engine_facts.uses(data)
    engine_list.engine_list(engines, store)


frame.show(draw)
