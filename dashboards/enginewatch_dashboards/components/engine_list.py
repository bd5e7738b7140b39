"""The list of engines: each with every case that used it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.data import Row, Store
from enginewatch_dashboards.engines import ID_CHARS, Engine, accuracy_words
from enginewatch_dashboards.state import EngineState, href


def engine_list(engines: Sequence[Engine], store: Store) -> None:
    """Draw the list, the engine that was used last first."""
    rows = [row for engine in engines for row in engine.cases]
    good = {(row["engine_sha256"], row["case_key"]) for row in store.shared("engines_good")}
    st.subheader(fmt.count(len(engines), "engine"))
    table = as_table(
        rows,
        {
            "Engine": lambda row: f"/{_href(row)}",
            "Case": "case_key",
            "Build": lambda row: row["build_number"] + 1,
            "Precision": "precision",
            "Realised": "realised_precision",
            "Last good": lambda row: "✓ last good" if (row["engine_sha256"], row["case_key"]) in good else "",
            "Latency p50": "latency_p50_ms",
            "Relative L2": accuracy_words,
            "Size": lambda row: row["size_bytes"] / 2**20,
            "Build time": "build_time_s",
            "Runs": lambda row: f"{row['valid_runs']} of {row['runs']}",
            "Layers": lambda row: "✓" if row["layers_run"] else "",
            "Last used": "last_used",
            "Device": lambda row: fmt.device_label(row["device"] or ""),
            "Checksum": lambda row: row["engine_sha256"][:ID_CHARS],
        },
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        height=420 if len(rows) > 11 else "auto",
        placeholder=fmt.ABSENT,
        alt=f"{fmt.count(len(engines), 'engine')} with the cases that used them",
        column_config={
            "Engine": st.column_config.LinkColumn("Engine", display_text="open", width=60, pinned=True),
            "Build": number(width=55),
            "Latency p50": number("Latency p50 (ms)", format="%.4g"),
            "Relative L2": st.column_config.TextColumn("Relative L2 from fp32"),
            "Size": number("Size (MiB)", format="%.1f"),
            "Build time": number("Build time (s)", format="%.3g"),
            "Runs": st.column_config.TextColumn("Runs that count"),
            "Last used": st.column_config.DatetimeColumn("Last used (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
        },
    )


def _href(row: Row) -> str:
    return href(EngineState(id=row["engine_sha256"][:ID_CHARS], case=row["case_key"]))
