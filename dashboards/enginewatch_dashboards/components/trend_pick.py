"""The pickers of the Trend: case, series where a case has several, metric."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.inputs import select
from enginewatch_dashboards.data import Store
from enginewatch_dashboards.state import TrendState
from enginewatch_db.metrics import METRICS

Row = dict[str, Any]


def pick_series(series: Sequence[Row], state: TrendState) -> Row:
    """Draw the pickers of case and series, and return the series; a link to an unknown case says so."""
    cases = list(dict.fromkeys(row["case_key"] for row in series))
    fallback = max(series, key=lambda row: (row["n_valid"] > 0, row["newest_at"]))["case_key"]
    if state.case is not None and state.case not in cases:
        st.warning(f"This store has no case `{state.case}`; showing `{fallback}`.", icon=":material/search_off:")
    case = select("Series: workload / backend / precision / batch or concurrency", cases, param="case",
                  value=state.case if state.case in cases else fallback)  # fmt: skip
    mine = [row for row in series if row["case_key"] == case]
    if len(mine) == 1:
        return mine[0]
    return _pick_variant(mine, state)


def _pick_variant(mine: Sequence[Row], state: TrendState) -> Row:
    """Let one choose between series that share a case but may not be compared: another device, option or tool."""
    by_id = {row["series_id"]: row for row in mine}
    given = next((sid for sid in by_id if state.series and sid.startswith(state.series)), None)
    differing = _differing([json.loads(row["identity"]) for row in mine])

    def words(series_id: str) -> str:
        identity = json.loads(by_id[series_id]["identity"])
        told = ", ".join(f"{name} {identity.get(name)}" for name in differing) or series_id[:8]
        return f"{told} ({fmt.count(by_id[series_id]['n_runs'], 'run')})"

    found = select("Identity: these may not be compared", list(by_id), param="series", value=given, words=words)
    return by_id[found] if found else mine[0]


def _differing(identities: Sequence[dict[str, Any]]) -> list[str]:
    names = sorted({name for identity in identities for name in identity})
    return [name for name in names if len({json.dumps(identity.get(name)) for identity in identities}) > 1]


def pick_metric(store: Store, series: Row, state: TrendState) -> str | None:
    """Draw the picker of the metric and return what was chosen; ``None`` where the series has no value at all."""
    found = {row["metric"]: row for row in store.rows("series_metrics", series=series["series_id"])}
    known = [key for key in METRICS if key in found and found[key]["n_values"]]
    if not known:
        return None
    if state.metric is not None and state.metric in found and state.metric not in known:
        reason = found[state.metric]["absent_reason"]
        st.info(f"{fmt.metric_label(state.metric)} is absent: {reason}", icon=":material/info:")
    usual = next((key for key in known if METRICS[key].gated), known[0])
    value = state.metric if state.metric in known else usual
    return select("Metric", known, param="metric", value=value, words=metric_words)


def metric_words(metric: str) -> str:
    """Return a metric's name with its unit."""
    unit = fmt.metric_unit(metric)
    return f"{fmt.metric_label(metric)} ({unit})" if unit else fmt.metric_label(metric)
