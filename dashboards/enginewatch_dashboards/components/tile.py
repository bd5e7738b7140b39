"""One tile of the Overview: a model on a device, its verdict, its change, and its recent history."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.components.verdict import badge
from enginewatch_dashboards.figures.spark import sparkline
from enginewatch_dashboards.state import TrendState
from enginewatch_dashboards.theme import GREY
from enginewatch_dashboards.tiles import Tile


def tile(item: Tile, metric: str | None, history: Sequence[float]) -> None:
    """Draw a tile.

    Args:
        item: What it says.
        metric: The metric that it shows; ``None`` when the case has no value at all.
        history: That metric's location in each session, oldest first.
    """
    link(item.model, TrendState(case=item.case_key, metric=metric), help_text="Open its trend")
    st.caption(fmt.device_label(item.device))
    badge(item.look, help_text=fmt.sentence(item.sentence))
    st.markdown(_value(item, metric, history))
    reference = item.verdict["baseline_value"] if item.verdict else None
    picture = sparkline(history, colour=GREY, last_colour=item.look.colour, reference=reference)
    if picture:
        st.image(picture, alt=f"{fmt.metric_label(metric or '')} over {len(history)} sessions", width="stretch")
    else:
        st.caption(fmt.sentence(item.sentence))
    st.caption(_counts(item, history))


def _value(item: Tile, metric: str | None, history: Sequence[float]) -> str:
    if metric is None:
        return f"{_feed(item)}  \nno result that counts"
    value = item.verdict["candidate_value"] if item.verdict else history[-1] if history else None
    what = f"{fmt.metric_label(metric)} **{fmt.quantity(metric, value)}**"
    if value is None:
        return f"{_feed(item)}  \n{fmt.metric_label(metric)}: no result"
    if item.verdict is None or item.verdict["effect_rel"] is None:
        return f"{_feed(item)}  \n{what}"
    row = item.verdict
    change = fmt.effect(row["effect_rel"], row["effect_ci_low"], row["effect_ci_high"])
    return f"{_feed(item)}  \n{what}  \n{change}"


def _feed(item: Tile) -> str:
    """Return the case without the workload's name where that only repeats the model's."""
    head, _, rest = item.case_key.partition("/")
    return rest.replace("/", " · ") if head == item.model else item.case_key.replace("/", " · ")


def _counts(item: Tile, history: Sequence[float]) -> str:
    row = item.verdict
    runs = (
        f"{row['n_candidate']} against {fmt.count(row['n_baseline'], 'run')}"
        if row and row["n_baseline"] is not None
        else fmt.count(item.n_valid, "valid run")
    )
    cases = f"worst of {item.n_cases} cases" if item.n_cases > 1 and row else fmt.count(item.n_cases, "case")
    return f"{runs} · {cases} · {fmt.count(len(history), 'session')}"
