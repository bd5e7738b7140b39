"""The user's five limits: met, breached or not evaluable, and why."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.attention import STATES, LimitLine, collapsed

BADGES = {
    "met": ":green-badge[:material/check: {n}met]",
    "breached": ":orange-badge[:material/warning: {n}breached]",
    "not_evaluable": ":gray-badge[:material/help: {n}not evaluable]",
    None: ":gray-badge[:material/hourglass_empty: {n}not judged yet]",
}


def limits(lines: Sequence[LimitLine]) -> None:
    """Draw the table of limits."""
    if all(line.state is None for line in lines):
        st.caption("Limits are evaluated with the verdicts: run `enginewatch judge`.")
    lines = collapsed(lines)
    st.table(
        {
            "Limit": [line.name for line in lines],
            "State": [_state(line) for line in lines],
            "Why": [fmt.sentence(line.told) for line in lines],
        },
        border="horizontal",
        hide_index=True,
        alt="The five limits, each with its state and the reason",
    )


def _state(line: LimitLine) -> str:
    if not line.counts:
        return BADGES[None].format(n="")
    return " ".join(BADGES[state].format(n=f"{line.counts[state]} ") for state in STATES if state in line.counts)
