"""The head of the Overview: which sessions are shown, and the one sentence about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.inputs import select
from enginewatch_dashboards.components.links import share
from enginewatch_dashboards.state import OverviewState
from enginewatch_dashboards.tiles import Headline

NEWEST = "newest of each plan"


def pick(sessions: Sequence[dict[str, Any]], state: OverviewState) -> tuple[str | None, str | None]:
    """Draw the pickers; return the plan and the session that were chosen (``None``: all, newest)."""
    plans = list(dict.fromkeys(row["plan_name"] for row in sessions))
    words = {row["session_id"]: session_words(row) for row in sessions}
    given = named_session(sessions, state.session)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        plan = select("Plan", plans, param="plan", value=state.plan, any_word="all plans")
        mine = [row["session_id"] for row in sessions if plan is None or row["plan_name"] == plan]
        session = select("Session", mine, param="session", value=given, words=words.__getitem__, any_word=NEWEST)
        share(OverviewState(plan=plan, session=session, verdict=state.verdict))
    return plan, session


def named_session(sessions: Sequence[dict[str, Any]], name: str | None) -> str | None:
    """Return the id of the session that a link names, by its label or by the beginning of its id; say when none."""
    if name is None:
        return None
    for row in sessions:
        if row["session_id"].startswith(name) or row["label"] == name:
            return str(row["session_id"])
    st.warning(f"This store has no session `{name[:60]}`; showing all of them.", icon=":material/search_off:")
    return None


def session_words(row: dict[str, Any]) -> str:
    """Return what to call a session in a list."""
    label = row["label"] or fmt.short(row["session_id"])
    return f"{label} · {row['plan_name']} · {fmt.when(row['started_at'])}"


def headline(found: Headline, sessions: Sequence[dict[str, Any]]) -> None:
    """Draw the sentence and what it is about."""
    st.markdown(f"# :{found.look.badge}[{found.look.icon}] {found.sentence}")
    about = "; ".join(session_words(row) for row in sessions[:3])
    more = f" and {len(sessions) - 3} more" if len(sessions) > 3 else ""
    st.markdown(f"{fmt.sentence(found.detail)}  \n:gray[Shown: {about}{more}]")
