"""SQL: my own question, read-only."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards.components import frame, links
from enginewatch_dashboards.components.console import answer, editor, examples
from enginewatch_dashboards.components.schema_browser import schema_browser
from enginewatch_dashboards.data import Store
from enginewatch_dashboards.state import SqlState, parse

DEFAULT = """\
SELECT case_key, status, count(*) AS runs, avg(valid::INTEGER) AS share_valid
FROM v_runs GROUP BY ALL ORDER BY ALL"""


def draw(store: Store) -> None:
    """Draw the page."""
    state = parse(SqlState, st.query_params.to_dict())
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("SQL")
        links.share(SqlState(q=state.q or DEFAULT))
    st.caption("DuckDB on a published copy: no writes, no files, no network, no settings.")
    left, right = st.columns([3, 1], gap="medium")
    with left:
        query = editor(state.q or DEFAULT)
        answer(store, query)
    with right:
        examples()
        schema_browser(store.rows("schema"))


frame.show(draw)
