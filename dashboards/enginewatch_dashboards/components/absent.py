"""Cases whose tool is absent on the machine: shown with what would add it, never as a failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st


def not_available(cases: Sequence[dict[str, Any]]) -> None:
    """Draw the cases that could not run here; nothing when there are none."""
    rows = [case for case in cases if case["n_not_available"]]
    if not rows:
        return
    st.subheader("Not available on this machine")
    st.table(
        {
            "Case": [f"`{row['case_key']}`" for row in rows],
            "Why": [row["failure_message"] for row in rows],
            "What adds it": [f"`{row['failure_remedy']}`" if row["failure_remedy"] else "–" for row in rows],
        },
        border="horizontal",
        hide_index=True,
        alt="Cases that are not available on this machine, with the remedy",
    )
