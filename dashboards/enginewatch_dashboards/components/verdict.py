"""A verdict as a badge: colour, symbol and word."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards.theme import Look


def badge(look: Look, *, help_text: str | None = None) -> None:
    """Show a state."""
    st.badge(look.word, icon=look.icon, color=look.badge, help=help_text)  # type: ignore[arg-type]  # a colour name


def badge_text(look: Look, words: str | None = None) -> str:
    """Return the Markdown of a badge, for use within a sentence."""
    return f":{look.badge}-badge[{look.icon} {words or look.word}]"
