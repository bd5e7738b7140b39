"""May one trust this run, and what was concluded about it."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.checklist import Check, Grade, checklist, verdict_of
from enginewatch_dashboards.components.run_data import RunData
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.theme import SEVERITIES
from enginewatch_db.model import FindingKind, Severity

GRADES = {
    Grade.GOOD: ":green-badge[:material/check: good]",
    Grade.WARN: ":orange-badge[:material/warning: care]",
    Grade.BAD: ":red-badge[:material/error: no]",
    Grade.UNKNOWN: ":gray-badge[:material/help: unknown]",
}


def trust(data: RunData) -> None:
    """Draw the checklist."""
    checks = checklist(data.run, data.metrics, data.reasons, data.phases, data.quality)
    st.subheader(f"May I trust it? {verdict_of(checks, valid=data.run['valid'])}")
    st.table(
        {
            "": [GRADES[check.grade] for check in checks],
            "Check": [check.title for check in checks],
            "Found": [_told(check) for check in checks],
        },
        border="horizontal",
        hide_index=True,
        hide_header=True,
        alt="Checklist: whether this run may be trusted",
    )


def _told(check: Check) -> str:
    remedy = f"  \n:gray[Try: {fmt.sentence(check.remedy)}]" if check.remedy else ""
    return fmt.sentence(check.told) + remedy


def conclusions(data: RunData) -> None:
    """Draw the findings about this run or its case; nothing where there are none."""
    rows = [
        row
        for row in data.store.rows("run_findings", run=data.run_id)
        if row["kind"] != FindingKind.THRESHOLD or row["severity"] != Severity.INFO
    ]
    if not rows:
        return
    st.subheader("What was concluded")
    for row in rows:
        sure = f" :gray[confidence {row['confidence']}]" if row["confidence"] else ""
        remedy = f"  \n:gray[Try: {fmt.sentence(row['remedy'])}]" if row["remedy"] else ""
        st.markdown(f"{badge_text(SEVERITIES[Severity(row['severity'])])} {fmt.sentence(row['title'])}{sure}{remedy}")
