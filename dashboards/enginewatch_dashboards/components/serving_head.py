"""The head of the Serving page: its filters, the sentence about the limit, and what to do where there is too little."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components import empty
from enginewatch_dashboards.components.inputs import number, select, switch, toggle
from enginewatch_dashboards.components.links import link, share
from enginewatch_dashboards.components.overview_head import named_session, session_words
from enginewatch_dashboards.data import MAX_SESSIONS, Row, Store
from enginewatch_dashboards.figures.serving import load_words, value_words
from enginewatch_dashboards.serving import Configuration, Level, best_within, meets
from enginewatch_dashboards.state import ServingState

METRICS_SHOWN = (
    "ttft_p99_ms", "ttft_p50_ms", "itl_p99_ms", "itl_p50_ms", "tpot_p99_ms", "tpot_p50_ms", "e2e_p99_ms", "e2e_p50_ms",
)  # fmt: skip
"""Metrics that can be drawn against the load; the first one unless another is chosen."""
COMMAND = "enginewatch load URL --concurrency 1,8,32"
REPEATS = "`repeats` in a plan, `--repeats` of `enginewatch load`"
LADDER = f"{COMMAND}          # three levels of one server, ten seconds each"


def choose(store: Store, state: ServingState) -> ServingState | None:
    """Draw the filters and return what is chosen; say what to run where the store has no load run."""
    values = store.rows("serving_filters")
    if not values:
        st.title("Serving")
        empty.nothing(
            "No load run yet",
            "This page compares load levels of LLM servers: throughput against what one user feels.",
            f"{LADDER}\nenginewatch demo          # or load recorded H200 runs",
            icon="hub",
        )
        return None
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title("Serving")
        bar = st.container(width="content")
    sessions = {row["session_id"]: row for row in store.rows("sessions", limit=MAX_SESSIONS)}
    given = named_session(list(sessions.values()), state.session)
    grid = st.grid(5, min_column_width=180)
    found: dict[str, str | None] = {}
    for name in ("workload", "model", "device", "precision"):
        with grid.cell():
            options = sorted({row[name] for row in values})
            found[name] = select(name.capitalize(), options, param=name, value=getattr(state, name), any_word="all")
    with grid.cell():
        session = select("Session", list(sessions), param="session", value=given, any_word="newest of each level",
                         words=lambda sid: session_words(sessions[sid]))  # fmt: skip
    chosen = _drawn(state, found, session)
    with bar:
        share(chosen)
    return chosen


def _drawn(state: ServingState, found: dict[str, str | None], session: str | None) -> ServingState:
    """Draw what is drawn, and how; return the whole state."""
    grid = st.grid(4, min_column_width=180)
    with grid.cell():
        metric = select("Against the load", METRICS_SHOWN, param="metric", value=state.metric or METRICS_SHOWN[0],
                        words=lambda key: f"{fmt.metric_label(key)} (ms)") or METRICS_SHOWN[0]  # fmt: skip
    with grid.cell():
        limit = number(
            "Limit on it (ms)", param="slo", value=read_ms(state.slo), step=10.0, hint="none",
            help_text="A service-level objective: drawn as a line, judged with each level's interval, and the share of "
            "requests that met it is counted again from the stored requests.",
        )  # fmt: skip
    with grid.cell():
        st.caption("Throughput")
        per = switch("Throughput", ("server", "gpu"), param="per", value=state.per,
                     words={"server": "of the server", "gpu": "per GPU"})  # fmt: skip
    with grid.cell():
        st.caption("Runs")
        counted = toggle("only those that count", param="counted", value=state.counted)
    return ServingState(
        **found, session=session, counted=counted, per=per, load=state.load, metric=_unless_usual(metric),
        slo=None if limit is None else f"{limit:g}",
    )  # fmt: skip


def _unless_usual(metric: str) -> str | None:
    return None if metric == METRICS_SHOWN[0] else metric


def read_ms(text: str | None) -> float | None:
    """Return a limit from the URL; ``None`` where it is no number above zero."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def nothing_fits(state: ServingState) -> None:
    """Show that the filters leave nothing."""
    empty.nothing("No load run fits these filters", "Take one of them away.", icon="filter_alt_off")
    link("Show all load runs", ServingState(metric=state.metric, slo=state.slo))


def told(lines: Sequence[Configuration], rows: Sequence[Row], *, metric: str, limit: float | None) -> None:
    """Draw what the charts say in a sentence, and what would make them say more."""
    if limit is not None:
        st.markdown(_sentence(lines, metric, limit))
    levels = [level for line in lines for level in line.levels]
    shown = sum(level.n_runs for level in levels)
    notes = [f"{fmt.count(shown, 'run')}, {fmt.count(len(levels), 'level')} of "
             f"{fmt.count(len(lines), 'configuration')}"]  # fmt: skip
    if single := sum(level.single for level in levels):
        words = "every level is" if single == len(levels) else f"{single} of them are"
        notes.append(f"{words} a single run (hollow) without an interval: measure three or more ({REPEATS})")
    if silent := sum(not level.counts for level in levels):
        notes.append(f"{fmt.count(silent, 'level')} (crosses) without a run that counts")
    if older := len(rows) - shown:
        runs = fmt.count(older, "run")
        notes.append(
            f"{runs} of the same levels, older or of another length, are left out: choose a session to see them"
        )
    st.caption(" · ".join(notes))
    if all(len(line.levels) == 1 for line in lines):
        st.info("Each configuration has one load level: a ladder shows where it saturates.", icon=":material/stairs:")
        st.code(LADDER, language="bash")


def _sentence(lines: Sequence[Configuration], metric: str, limit: float) -> str:
    asked = f"{fmt.metric_label(metric)} ≤ {limit:g} ms"
    best = best_within(lines, limit)
    if best is None:
        counted = [level for line in lines for level in line.levels if level.counts]
        if not counted:
            return f"**No run counts, so none is judged by {asked}.** The table says why."
        open_ends = [level for level in counted if _is_open(level, limit)]
        if open_ends:
            return f"**No level meets {asked} beyond doubt**: {fmt.count(len(open_ends), 'interval')} reach across it."
        return f"**No level meets {asked}.**"
    line, level = best
    throughput = "" if level.throughput is None else value_words("output_tokens_s", level.throughput)
    return f"Most within **{asked}**: **{fmt.plain(line.name)}** at {load_words(line, level)}, {throughput}."


def _is_open(level: Level, limit: float) -> bool:
    return level.metric is not None and meets(level.metric, limit) is None
