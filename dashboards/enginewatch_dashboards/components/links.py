"""Links between pages: the state goes along in the URL."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st

from enginewatch_dashboards.state import PageState, href, to_query

ICONS = {
    "overview": ":material/dashboard:",
    "trend": ":material/show_chart:",
    "run": ":material/speed:",
    "engine": ":material/memory:",
    "runs": ":material/list:",
    "serving": ":material/hub:",
    "sql": ":material/database:",
}


def link(label: str, state: PageState, *, icon: bool = True, help_text: str | None = None) -> None:
    """Show a link to a page in the given state."""
    st.page_link(
        f"views/{state.PATH}.py",
        label=label,
        icon=ICONS[state.PATH] if icon else None,
        query_params=to_query(state),
        help=help_text,
    )


def go(state: PageState) -> NoReturn:
    """Leave this page for another one."""
    st.switch_page(f"views/{state.PATH}.py", query_params=to_query(state))


def share(state: PageState) -> None:
    """Show the address that reopens exactly this view, with a button that copies it."""
    base = (st.context.url or "").rstrip("/")
    if base.rsplit("/", 1)[-1] == state.PATH:
        base = base.rsplit("/", 1)[0]
    with st.popover("Link", icon=":material/link:", type="tertiary"):
        st.caption("Reopens exactly this view")
        st.code(f"{base}/{href(state)}", language=None, wrap_lines=True)
