"""Facts in boxes: a title, and names with their values."""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from enginewatch_dashboards import format as fmt

HASH_CHARS = 16
_HASH = re.compile(r"[0-9a-f]{40,64}")
"""Hashes are cut on the page; raw JSON and commands have them whole."""


def draw_facts(groups: Mapping[str, Mapping[str, object]]) -> None:
    """Draw groups of facts beside each other, without what is not known.

    Args:
        groups: Title → name → value.
    """
    grid = st.grid(3, border=True, min_column_width=300)
    for title, facts in groups.items():
        known = {key: value for key, value in facts.items() if value not in (None, "", {}, [])}
        if known:
            with grid.cell():
                st.markdown(f"**{title}**")
                st.markdown("  \n".join(f":gray[{fmt.plain(key)}] {_code(value)}" for key, value in known.items()))


def _code(value: object) -> str:
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value).replace("`", "'").replace("\n", " ")
    return f"`{text[:HASH_CHARS]}…`" if _HASH.fullmatch(text) else f"`{text}`"
