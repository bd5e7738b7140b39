"""The list of what to look at, with the way to each."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.attention import MAX_ITEMS, Item
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.state import RunState, SqlState, TrendState
from enginewatch_dashboards.theme import SEVERITIES

FINDINGS_SQL = "SELECT severity, kind, title, remedy FROM v_findings ORDER BY created_at DESC"


def look_at(items: Sequence[Item], *, is_judged: bool) -> None:
    """Draw the list; when it is empty, say whether anyone has looked.

    Args:
        items: Lines, worst first.
        is_judged: Whether there are stored verdicts or findings at all.
    """
    if not items:
        told = "Nothing needs attention: no failed case, and no finding above information."
        st.markdown(told if is_judged else "No case failed. Findings come with the verdicts: run `enginewatch judge`.")
        return
    for item in items[:MAX_ITEMS]:
        _line(item)
    if len(items) > MAX_ITEMS:
        link(f"{fmt.count(len(items) - MAX_ITEMS, 'more finding')}", SqlState(q=FINDINGS_SQL))


def _line(item: Item) -> None:
    with st.container(border=True, horizontal=True, wrap=False, vertical_alignment="center", gap="xsmall"):
        remedy = f"  \n:gray[Try: {fmt.sentence(item.remedy)}]" if item.remedy else ""
        st.markdown(f"{badge_text(SEVERITIES[item.severity])} {fmt.sentence(item.title)}{remedy}", width="stretch")
        if item.case_key:
            link("Trend", TrendState(case=item.case_key, metric=item.metric))
        if item.run_id:
            link("Run", RunState(id=item.run_id))
