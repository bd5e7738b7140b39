"""The SQL console: an editor whose content lives in the URL, the result, and what one may do with it."""

from __future__ import annotations

import shlex

import numpy as np
import pyarrow as pa
import streamlit as st
from numpy.typing import NDArray

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.frame import error_box
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.data import CONSOLE_ROWS, Store
from enginewatch_dashboards.figures.quick import numeric_columns, quick
from enginewatch_dashboards.state import MAX_QUERY_CHARS, SqlState
from enginewatch_db.errors import UsageError
from enginewatch_db.export import render

EXAMPLES: dict[str, str] = {
    "Newest runs": (
        "SELECT started_at, case_key, status, valid, reason_codes\nFROM v_runs ORDER BY started_at DESC LIMIT 50"
    ),
    "Latency by session": (
        "SELECT case_key, label AS session, median(value) AS latency_p50_ms, count(*) AS runs\n"
        "FROM v_metrics JOIN sessions USING (session_id)\n"
        "WHERE metric = 'latency_p50_ms' AND valid\nGROUP BY ALL ORDER BY case_key, session"
    ),
    "Noise by series": (
        "SELECT case_key, metric, count(*) AS runs, stddev(ln(value)) * 100 AS sd_pct\n"
        "FROM v_metrics WHERE valid AND metric IN ('latency_p50_ms', 'output_tokens_s') AND value > 0\n"
        "GROUP BY ALL HAVING count(*) > 2 ORDER BY sd_pct DESC"
    ),
    "SM against busy": (
        "SELECT case_key, avg(value) FILTER (WHERE metric = 'gpu_busy_time_mean_pct') AS busy_pct,\n"
        "  avg(value) FILTER (WHERE metric = 'sm_active_mean_pct') AS sm_active_pct\n"
        "FROM v_metrics GROUP BY case_key HAVING busy_pct IS NOT NULL ORDER BY busy_pct - sm_active_pct DESC"
    ),
    "Failures": (
        "SELECT started_at, case_key, failure_code, failure_message, failure_remedy\n"
        "FROM v_runs WHERE status <> 'ok' ORDER BY started_at DESC"
    ),
    "Slowest layers": (
        "SELECT case_key, name, layer_type, avg(mean_ns) / 1e3 AS mean_us\n"
        "FROM layers JOIN v_runs USING (run_id) GROUP BY ALL ORDER BY mean_us DESC LIMIT 50"
    ),
}
"""Name → query; tests run each of them."""

_KEY = "sql_text"


def _keep() -> None:
    text = st.session_state[_KEY].strip()
    if text:
        st.query_params["q"] = text[:MAX_QUERY_CHARS]
    else:
        st.query_params.pop("q", None)


def editor(query: str) -> str:
    """Draw the editor and return the query."""
    if st.session_state.get(_KEY, "").strip() != query.strip():
        st.session_state[_KEY] = query
    st.text_area("Query", key=_KEY, height=170, on_change=_keep, max_chars=MAX_QUERY_CHARS)
    st.button("Run", type="primary", icon=":material/play_arrow:", shortcut="Ctrl+Enter", help="Ctrl+Enter")
    return query


def examples() -> None:
    """Draw links to the example queries."""
    with st.expander("Examples", expanded=True, key="sql_examples"):
        for name, query in EXAMPLES.items():
            link(name, SqlState(q=query), icon=False)


def answer(store: Store, query: str) -> None:
    """Run the query and draw its result, or one clear line about what is wrong."""
    try:
        with st.spinner("Asking the store…", show_time=True):
            table = store.console(query)
    except UsageError as error:
        error_box(one_line(error.message), f"{error.remedy}." if error.remedy else None)
        return
    _caption(table)
    if table.num_rows == 0:
        st.info("The query ran and returned no row.", icon=":material/search_off:")
        return
    st.dataframe(table, hide_index=True, alt="Result of the query")
    _actions(table, query)
    _chart(table, query)


def one_line(message: str) -> str:
    """Return what DuckDB said without its drawing of where: the first line that says something."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not set(line.strip()) <= {"^", "~"}]
    told = [line for line in lines if not line.startswith("LINE ")]
    return " ".join(told[:2])[:400]


def _caption(table: pa.Table) -> None:
    cut = f", cut at {CONSOLE_ROWS:,}" if table.num_rows == CONSOLE_ROWS else ""
    st.caption(f"{fmt.count(table.num_rows, 'row')}{cut}, {fmt.count(table.num_columns, 'column')}")


def _actions(table: pa.Table, query: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "CSV", render(table, "csv"), "enginewatch.csv", "text/csv", icon=":material/download:", on_click="ignore"
        )
        with st.popover("On the command line", icon=":material/terminal:"):
            st.code(f"enginewatch db query {shlex.quote(query)}", language="bash", wrap_lines=True)


def _chart(table: pa.Table, query: str) -> None:
    columns = as_arrays(table)
    numeric = numeric_columns(columns)
    if not numeric or table.num_rows < 2:
        return
    y = st.selectbox("Quick chart of", numeric, key="sql_y")
    figure = quick(columns, y=y, revision=query)
    chart(figure, key="sql_chart", alt=f"{y} of the query's rows, in their order")


def as_arrays(table: pa.Table) -> dict[str, NDArray[np.generic]]:
    """Return the columns that a chart can use: numbers, moments and text; names that come twice once."""
    found: dict[str, NDArray[np.generic]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_decimal(kind):
            column, kind = column.cast(pa.float64(), safe=False), pa.float64()
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found[name] = column.cast(pa.float64(), safe=False).to_numpy()
        elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            found[name] = column.cast(pa.timestamp("ms"), safe=False).to_numpy()
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            found[name] = column.to_numpy()
    return found
