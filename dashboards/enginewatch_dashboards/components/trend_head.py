"""The head of the Trend: where the newest session stands, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.theme import NO_DATA, NOT_JUDGED, VERDICTS
from enginewatch_dashboards.trends import SessionPoint
from enginewatch_db.metrics import METRICS


def head(series: dict[str, Any], metric: str, points: Sequence[SessionPoint]) -> None:
    """Draw the title and the sentence.

    Args:
        series: Row of the query ``series``.
        metric: Key of the metric.
        points: Sessions, oldest first; at least one.
    """
    newest = points[-1]
    st.title(f"{fmt.metric_label(metric)} of {fmt.plain(series['case_key'])}")
    value = f"**{fmt.quantity(metric, newest.value)}** {fmt.interval(newest.low, newest.high)}"
    measured = sum(point.value is not None for point in points)
    if newest.verdict is not None:
        state = f"{badge_text(VERDICTS[newest.verdict])} {fmt.sentence(newest.why)}"
    elif measured < 2:
        state = f"{badge_text(NO_DATA)} {fmt.count(measured, 'session')}; run again to compare"
    else:
        state = f"{badge_text(NOT_JUDGED)} run `enginewatch judge`"
    own = ", whose own interval this is" if newest.n_valid == 1 and newest.low is not None else ""
    over = f"{fmt.count(newest.n_valid, 'valid run')}{own}"
    st.markdown(f"{state}  \nNewest session {fmt.plain(newest.label)}: {value} over {over}")
    about = METRICS[metric].description if metric in METRICS else ""
    st.caption(f"{about} {fmt.device_label(series['device'])}. Click a point to open its run.")
