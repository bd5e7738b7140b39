"""Trend: when did it change, and what else changed then?"""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards import trends
from enginewatch_dashboards.components import empty, frame, links
from enginewatch_dashboards.components.chart import clickable
from enginewatch_dashboards.components.inputs import switch, toggle
from enginewatch_dashboards.components.trend_head import head
from enginewatch_dashboards.components.trend_pick import pick_metric, pick_series
from enginewatch_dashboards.components.trend_table import trend_table
from enginewatch_dashboards.data import Row, Store
from enginewatch_dashboards.figures.trend import trend
from enginewatch_dashboards.state import RunState, TrendState, parse

SHOWN_SESSIONS = 200


def draw(store: Store) -> None:
    """Draw the page."""
    state = parse(TrendState, st.query_params.to_dict())
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        series = pick_series(store.rows("series"), state)
    with right:
        metric = pick_metric(store, series, state)
    runs = store.rows(
        "trend_runs", series=series["series_id"], case=series["case_key"], metric=metric or "", sessions=SHOWN_SESSIONS
    )
    if metric is None:
        empty.no_values(series, runs[-1])
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        axis = switch("Axis", ("order", "time"), param="axis", value=state.axis,
                      words={"order": "in order", "time": "over time"})  # fmt: skip
        dots = toggle("single runs", param="dots", value=state.dots)
        zero = toggle("from zero", param="zero", value=state.zero)
        variant = series["series_id"][:13] if state.series else None
        links.share(TrendState(case=series["case_key"], series=variant, metric=metric, axis=axis, zero=zero, dots=dots))
    _chart(store, series, metric, runs, state=TrendState(axis=axis, zero=zero, dots=dots, series=variant))


def _chart(store: Store, series: Row, metric: str, runs: list[Row], *, state: TrendState) -> None:
    verdicts = store.rows("trend_verdicts", case=series["case_key"], metric=metric)
    points = trends.session_points(runs, verdicts, store.rows("baselines"))
    environments = store.rows("environments", environments=sorted({run["env_id"] for run in runs}))
    changes = trends.environment_changes(runs, environments)
    head(series, metric, points)
    revision = f"{series['series_id']}/{metric}/{state.axis}"
    figure = trend(points, runs, changes, metric, axis=state.axis, zero=state.zero, dots=state.dots, revision=revision)
    alt = f"{fmt.metric_label(metric)} of {series['case_key']} over {fmt.count(len(points), 'session')}"
    if chosen := clickable(figure, key=f"trend/{revision}", alt=alt):
        links.go(RunState(id=chosen, case=series["case_key"], series=state.series, metric=metric))
    trend_table(points, changes, metric)


frame.show(draw)
