"""The head of the Engine page: which engine, which case, compared with what, and its main numbers."""

from __future__ import annotations

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components import empty
from enginewatch_dashboards.components.engine_data import EngineData
from enginewatch_dashboards.components.inputs import select
from enginewatch_dashboards.components.links import link, share
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.data import Row, Store
from enginewatch_dashboards.engines import ACCURACY, Engine, candidates, group, meant
from enginewatch_dashboards.state import EngineState, RunsState, RunState, TrendState

MAX_ROWS = 500
"""Engines with their cases in pickers and list; older ones are reachable by their id."""

Chosen = tuple[Engine, Row, Engine | None]


def available(store: Store, state: EngineState) -> list[Engine]:
    """Return the newest engines, and those that the URL names besides."""
    found = group(store.rows("engines", prefix=None, limit=MAX_ROWS))
    for given in (state.id, state.base):
        if given and not meant(found, given):
            found += meant(group(store.rows("engines", prefix=given.strip().lower(), limit=MAX_ROWS)), given)
    return found


def none(store: Store) -> None:
    """Say that no engine was ever built, and what builds one."""
    st.title("No engine yet")
    empty.nothing(
        "No run of this store used an engine",
        "Engines come from runs of ONNX Runtime, TensorRT and other builders; load runs of a server have none.",
        "enginewatch run PLAN      # measure what a plan file declares",
        icon="memory",
    )
    link("All runs", RunsState())


def choose(engines: list[Engine], state: EngineState) -> Chosen | None:
    """Draw the pickers and return engine, case and what to compare with; ``None`` while an id fits several engines."""
    found = meant(engines, state.id)
    if len(found) > 1:
        _which(found, state.id or "")
        return None
    if state.id and not found:
        st.warning(f"This store has no engine `{fmt.plain(state.id[:64])}`; showing the newest.",
                   icon=":material/search_off:")  # fmt: skip
    by_id = {engine.id: engine for engine in engines}
    left, middle, right = st.columns([5, 3, 5], vertical_alignment="bottom")
    with left:
        shown = (found or [one for one in engines if one.case(state.case)] or engines)[0].id
        engine = by_id[select("Engine", list(by_id), param="id", value=shown, words=lambda one: by_id[one].words)
                       or shown]  # fmt: skip
    usual = engine.usual_case()["case_key"]
    keys = [row["case_key"] for row in engine.cases]
    with middle:
        key = select("Case", keys, param="case", value=state.case if state.case in keys else usual)
    others = {one.id: one for one in candidates(engines, engine)}
    with right:
        base = _pick_base(others, engines, state)
    return engine, engine.case(key) or engine.usual_case(), base


def _pick_base(others: dict[str, Engine], engines: list[Engine], state: EngineState) -> Engine | None:
    given = meant(engines, state.base)
    value = given[0].id if len(given) == 1 else None
    chosen = select("Compare with", list(others), param="base", value=value, any_word="no other engine",
                    words=lambda one: others[one].words)  # fmt: skip
    if state.base and not given:
        st.caption(f"This store has no engine `{fmt.plain(state.base[:64])}`.")
    return others.get(chosen or "")


def _which(found: list[Engine], given: str) -> None:
    st.title("Which engine?")
    st.markdown(f"`{fmt.plain(given)}` is the beginning of several checksums.")
    for engine in found:
        link(fmt.plain(engine.words), EngineState(id=engine.sha256))


def head(data: EngineData, base: Engine | None, state: EngineState) -> None:
    """Draw title, marks and main numbers."""
    engine, case, facts = data.engine, data.case, data.engine.facts
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        link("Newest run", RunState(id=case["newest_run"]))
        if case["layers_run"]:
            link("Run with the layers", RunState(id=case["layers_run"]))
        link("Trend", TrendState(case=case["case_key"]))
        link("Runs", RunsState(case=case["case_key"]))
        st.space("stretch")
        share(EngineState(id=engine.id, case=case["case_key"], base=base.id if base else None, by=state.by))
    st.title(fmt.plain(engine.title))
    good = (row["case_key"] for row in data.store.shared("engines_good") if row["engine_sha256"] == engine.sha256)
    # Of one case it may be the last good one in more than one series.
    marks = [
        f":green-badge[:material/verified: last good of {fmt.plain(case_key)}]" for case_key in dict.fromkeys(good)
    ]
    if case["output_rel_l2"] is not None:
        look = ACCURACY.get(case["accuracy_state"], ACCURACY[None])
        marks.append(badge_text(look, f"accuracy {look.word}"))
    device = fmt.device_label(facts["device"]) if facts["device"] else "unknown device"
    st.markdown(" ".join([*marks, f"`{engine.id}` · {fmt.plain(device)} · case {fmt.plain(case['case_key'])}"]))
    _numbers(case, facts)


def _numbers(case: Row, facts: Row) -> None:
    shown = {
        "Latency p50": _ms(case["latency_p50_ms"]),
        "GPU time p50": _ms(case["gpu_time_p50_ms"]),
        "Output relative L2": None if case["output_rel_l2"] is None else fmt.tiny(case["output_rel_l2"]),
        "Size": f"{facts['size_bytes'] / 2**20:,.1f} MiB",
        "Build time": None if facts["build_time_s"] is None else fmt.seconds(facts["build_time_s"]),
        "Runs that count": f"{case['valid_runs']} of {case['runs']}",
    }
    known = {name: value for name, value in shown.items() if value is not None}
    grid = st.grid(len(known), border=True, min_column_width=150)
    for name, value in known.items():
        with grid.cell():
            st.metric(name, value)


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{fmt.number(value)} ms"
