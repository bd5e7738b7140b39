"""The charts of the Serving page; a click on a point opens its run, or lists its runs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import clickable
from enginewatch_dashboards.components.inputs import switch
from enginewatch_dashboards.components.links import go
from enginewatch_dashboards.figures import serving as figures
from enginewatch_dashboards.serving import Configuration, Level
from enginewatch_dashboards.state import RunsState, RunState, ServingState, from_serving, to_query

SIDE_PX = 420


def draw(
    lines: Sequence[Configuration],
    *,
    state: ServingState,
    metric: str,
    limit: float | None,
    throughput: str,
    interactivity: str,
) -> None:
    """Draw the charts.

    Args:
        lines: The configurations.
        state: What the page shows: zoom is kept while it stays the same.
        metric: Metric against the load.
        limit: Its limit.
        throughput: Metric upward.
        interactivity: Metric to the right.
    """
    revision = str(sorted(to_query(state).items()))
    if len(lines) > figures.MAX_LINES:
        st.caption(f"{figures.MAX_LINES} of {len(lines)} configurations are drawn, all are in the table: narrow the "
                   "filters.")  # fmt: skip
    chosen = None
    if any(level.throughput and level.interactivity for line in lines for level in line.levels):
        figure = figures.frontier(lines, throughput=throughput, interactivity=interactivity, revision=revision)
        alt = f"{fmt.metric_label(throughput)} against {fmt.metric_label(interactivity)}, one line a configuration"
        chosen = clickable(figure, key="frontier", alt=alt)
        if len(lines) > figures.MAX_NAMED:
            names = (f"**{line.place + 1}** {fmt.plain(line.name)}" for line in lines[: figures.MAX_LINES])
            st.caption(" · ".join(names))
    else:
        st.caption(_why_absent(throughput))
    numbered = len(lines) > figures.MAX_NAMED
    shown = _of_kind(lines[: figures.MAX_LINES], state)
    grid = st.grid(2, min_column_width=SIDE_PX)
    with grid.cell():
        title = f"{fmt.metric_label(metric)} against the load"
        chosen = _against(shown, metric, lambda level: level.metric, title, limit, revision, "metric", numbered) or (
            chosen
        )
    with grid.cell():
        asked = f"{metric.split('_')[0].upper()} ≤ {limit:g} ms" if limit else "the SLO"
        title = f"Requests that met {asked}"
        chosen = _against(
            shown, "goodput_pct", lambda level: level.goodput_pct, title, None, revision, "goodput", numbered
        ) or chosen  # fmt: skip
    if chosen:
        _open(next(level for line in lines for level in line.levels if chosen in level.run_ids), state)


def _of_kind(lines: Sequence[Configuration], state: ServingState) -> list[Configuration]:
    """Return the configurations whose loads fit one axis; where both kinds are there, one chooses."""
    closed = [line for line in lines if line.closed]
    opened = [line for line in lines if not line.closed]
    if not closed or not opened:
        return list(lines)
    usual = "closed" if len(closed) >= len(opened) else "open"
    chosen = switch("Load", ("closed", "open"), param="load", value=state.load or usual,
                    words={"closed": "concurrency", "open": "offered rate"})  # fmt: skip
    return closed if chosen == "closed" else opened


def _why_absent(throughput: str) -> str:
    if throughput == "output_tokens_s_per_gpu":
        return "No run knows its throughput per GPU: its device is no GPU, or it was measured by an older version."
    return "No run has both throughput and interactivity."


def _against(
    lines: Sequence[Configuration],
    metric: str,
    pick: figures.Pick,
    title: str,
    limit: float | None,
    revision: str,
    key: str,
    numbered: bool,
) -> str | None:
    if any(pick(level) is not None and level.load is not None for line in lines for level in line.levels):
        figure = figures.against_load(lines, metric, pick, title=title, limit=limit, revision=f"{revision}/{key}",
                                      numbered=numbered)  # fmt: skip
        return clickable(figure, key=f"serving_{key}", alt=f"{title}, one line a configuration")
    st.markdown(f"**{title}**")
    if key == "goodput":
        st.caption("No goodput: these runs declared no SLO. Give a limit above to count it from their requests.")
    else:
        st.caption(f"No run has {fmt.metric_label(metric)} and a load that is one number.")
    return None


def _open(level: Level, state: ServingState) -> None:
    if level.n_runs == 1:
        go(from_serving(RunState, state, id=level.run_ids[0]))
    go(from_serving(RunsState, state, case=level.case_key))
