"""The verdicts of the sessions that are shown, as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.inputs import pills
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.state import TrendState, href
from enginewatch_dashboards.theme import VERDICTS
from enginewatch_dashboards.tiles import counts
from enginewatch_db.model import SEVERITY, Verdict

ROW_PX, WHY_PX, WHY_CHARS, MAX_PX = 66, 330, 48, 640
"""A reason longer than its column is wrapped: Streamlit does so in rows of more than 4 rem."""

_CHANGE = re.compile(r".*? runs\)(; |, )")
"""What happened, up to what follows from it."""


def verdict_counts(verdicts: Sequence[dict[str, Any]], chosen: str | None) -> Verdict | None:
    """Draw how many comparisons have each verdict; choosing one filters the table. Return the chosen one."""
    number = counts(verdicts)
    words = {verdict.value: f"{VERDICTS[verdict].icon} {n} {VERDICTS[verdict].word}" for verdict, n in number.items()}
    found = pills("Verdicts", list(words), param="verdict", value=chosen, words=words)
    return Verdict(found) if found else None


def verdict_list(verdicts: Sequence[dict[str, Any]], only: Verdict | None) -> None:
    """Draw the verdicts, worst first."""
    rows = [row for row in verdicts if only is None or row["verdict"] == only]
    if not rows:
        word = f"Nothing is {VERDICTS[only].word}" if only else "Nothing was compared yet"
        st.caption(f"{word} in the sessions that are shown.")
        return
    rows.sort(key=lambda row: (SEVERITY.index(Verdict(row["verdict"])), -abs(row["effect_rel"] or 0)))
    table = as_table(
        rows,
        {
            "Trend": lambda row: f"/{href(TrendState(case=row['case_key'], metric=row['metric']))}",
            "Verdict": lambda row: VERDICTS[Verdict(row["verdict"])].text,
            "Case": "case_key",
            "Metric": lambda row: fmt.metric_label(row["metric"]),
            "Baseline": lambda row: fmt.quantity(row["metric"], row["baseline_value"]),
            "Now": lambda row: fmt.quantity(row["metric"], row["candidate_value"]),
            "Change [95 % interval]": lambda row: fmt.effect(
                row["effect_rel"], row["effect_ci_low"], row["effect_ci_high"]
            ),
            "Runs": _runs,
            "Why": lambda row: fmt.minus(short_why(row["metric"], row["why"])),
        },
    )
    is_tall = any(len(why) > WHY_CHARS for why in table["Why"].to_pylist())
    st.dataframe(
        table,
        height=MAX_PX if is_tall and len(rows) * ROW_PX > MAX_PX else "auto",
        hide_index=True,
        alt="Verdicts, worst first",
        row_height=ROW_PX if is_tall else None,
        column_config={
            "Trend": st.column_config.LinkColumn("Trend", display_text=":material/show_chart:", width=60),
            "Verdict": st.column_config.TextColumn(width=118),
            "Why": st.column_config.TextColumn(width=WHY_PX),
        },
    )


def short_why(metric: str, why: str) -> str:
    """Return why a verdict was made, without the change that stands in the columns beside it."""
    told = _CHANGE.match(why)
    return why[told.end() :] if told and why.startswith(metric) else why


def _runs(row: Mapping[str, Any]) -> str:
    if row["n_baseline"] is None:
        return fmt.ABSENT
    return f"{row['n_candidate']} vs {row['n_baseline']}"
