"""Runs: where is the run I mean? Failed and absent ones included."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components import empty, frame, links
from enginewatch_dashboards.components.inputs import select
from enginewatch_dashboards.components.overview_head import named_session, session_words
from enginewatch_dashboards.components.run_list import run_list
from enginewatch_dashboards.data import MAX_SESSIONS, Store
from enginewatch_dashboards.state import CHOICES, RunsState, parse, to_query
from enginewatch_dashboards.theme import STATUSES
from enginewatch_db.model import RunStatus

MAX_ROWS = 5_000
FILTERS = ("session", "workload", "backend", "precision", "status", "valid", "case")
VALID_WORDS = {"yes": "counts", "no": "does not count"}


def draw(store: Store) -> None:
    """Draw the page."""
    state = _filters(store, parse(RunsState, st.query_params.to_dict()))
    chosen = {name: getattr(state, name) for name in FILTERS}
    rows = store.rows("runs", **chosen, limit=MAX_ROWS)
    n_all = rows[0]["n_all"] if rows else 0
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(fmt.count(n_all, "run") if to_query(state) else f"All {fmt.count(n_all, 'run')}")
        links.share(state)
    if not rows:
        empty.nothing("No run fits these filters", "Take one of them away.", icon="filter_alt_off")
        links.link("Show all runs", RunsState())
        return
    if n_all > MAX_ROWS:
        st.caption(f"The newest {MAX_ROWS:,} are listed: narrow the filters, or ask under SQL.")
    run_list(rows)


def _filters(store: Store, state: RunsState) -> RunsState:
    values = store.rows("run_filters")
    sessions = {row["session_id"]: row for row in store.rows("sessions", limit=MAX_SESSIONS)}
    given = named_session(list(sessions.values()), state.session)
    grid = st.grid(7, min_column_width=150)
    found: dict[str, str | None] = {}
    with grid.cell():
        found["session"] = select("Session", list(sessions), param="session", value=given, any_word="all",
                                  words=lambda sid: session_words(sessions[sid]))  # fmt: skip
    for name in ("workload", "backend", "precision"):
        with grid.cell():
            options = sorted({row[name] for row in values})
            found[name] = select(name.capitalize(), options, param=name, value=getattr(state, name), any_word="all")
    with grid.cell():
        found["status"] = select("Status", CHOICES["status"], param="status", value=state.status, any_word="all",
                                 words=lambda status: STATUSES[RunStatus(status)].word)  # fmt: skip
    with grid.cell():
        found["valid"] = select("Validity", CHOICES["valid"], param="valid", value=state.valid, any_word="all",
                                words=VALID_WORDS.__getitem__)  # fmt: skip
    with grid.cell():
        cases = sorted({case for row in values for case in row["cases"]})
        found["case"] = select("Case", cases, param="case", value=state.case, any_word="all")
    return parse(RunsState, {name: value for name, value in found.items() if value})


frame.show(draw)
