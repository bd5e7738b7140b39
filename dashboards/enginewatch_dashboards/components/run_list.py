"""The list of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.engines import ID_CHARS
from enginewatch_dashboards.reasons import rejecting_first
from enginewatch_dashboards.state import EngineState, RunState, href
from enginewatch_dashboards.theme import run_look
from enginewatch_db.model import RunStatus


def run_list(rows: Sequence[dict[str, Any]]) -> None:
    """Draw the list; the browser fetches only the rows that it shows."""
    table = as_table(
        rows,
        {
            "Run": lambda row: f"/{href(RunState(id=row['run_id']))}",
            "Began": "started_at",
            "Case": "case_key",
            "Status": lambda row: run_look(row["status"], valid=row["valid"]).text,
            "Counts": _counts,
            "Session": lambda row: row["session_label"] or fmt.short(row["session_id"]),
            "Repeat": lambda row: row["repeat"] + 1,
            **({"Engine": _engine} if any(row["engine_sha256"] for row in rows) else {}),
            "Latency p50": "latency_p50_ms",
            "Latency p99": "latency_p99_ms",
            "TTFT p50": "ttft_p50_ms",
            "Tokens/s": "output_tokens_s",
            "Took": "wall_s",
            "Device": lambda row: fmt.device_label(row["device"]),
            "Host": "hostname",
            "Commit": lambda row: (row["git_commit"] or "")[:10],
            "Id": lambda row: fmt.short(row["run_id"]),
        },
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        lazy=True,
        height=640 if len(rows) > 16 else "auto",
        placeholder=fmt.ABSENT,
        alt=f"{fmt.count(len(rows), 'run')}, newest first",
        column_config={
            "Run": st.column_config.LinkColumn("Run", display_text="open", width=60, pinned=True),
            "Engine": st.column_config.LinkColumn("Engine", display_text="engine", width=70),
            "Status": st.column_config.TextColumn(width=125),
            "Counts": st.column_config.TextColumn(width=330, help="Whether the run enters verdicts, and why not"),
            "Began": st.column_config.DatetimeColumn("Began (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
            "Latency p50": number("Latency p50 (ms)", format="%.4g"),
            "Latency p99": number("Latency p99 (ms)", format="%.4g"),
            "TTFT p50": number("TTFT p50 (ms)", format="%.4g"),
            "Tokens/s": number(format="%.4g"),
            "Took": number("Took (s)", format="%.1f"),
        },
    )


def _engine(row: dict[str, Any]) -> str | None:
    sha256 = row["engine_sha256"]
    return f"/{href(EngineState(id=sha256[:ID_CHARS], case=row['case_key']))}" if sha256 else None


def _counts(row: dict[str, Any]) -> str:
    if row["status"] != RunStatus.OK:
        return row["failure_message"] or row["failure_code"] or "no result"
    codes = ", ".join(rejecting_first(row["reason_codes"]))
    if not row["valid"]:
        return f"✖ no: {codes}"
    return f"✓ with care: {codes}" if codes else "✓ yes"
