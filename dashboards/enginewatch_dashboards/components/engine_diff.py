"""Two engines side by side: which layers explain the change."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from enginewatch_ci.layers.text import explain, overhead_told
from enginewatch_ci.layers.waterfall import LayerDiff
from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.engine_data import EngineData, compared, load
from enginewatch_dashboards.components.inputs import switch
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.engines import Engine, counterpart, feed, names, totals_ns
from enginewatch_dashboards.figures.waterfall import waterfall
from enginewatch_dashboards.layer_rows import ALIGNED_PCT, Step, family_steps, steps
from enginewatch_dashboards.state import EngineState

SHOWN, LISTED = 12, 500
WORDS: dict[str, Callable[[Step], str]] = {
    "Precision": lambda step: step.precision,
    "Layers": lambda step: step.layers,
    "Remark": lambda step: step.remark,
}
"""Columns of words: only those that say something are shown."""


def difference(data: EngineData, other: Engine | None, state: EngineState) -> None:
    """Draw what explains the change from another engine to this one; nothing where none was chosen."""
    if other is None:
        return
    base = load(data.store, other, counterpart(other, data.case))
    base_name, cand_name = names(other, data.engine)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"What changed from {fmt.plain(base_name)} to {fmt.plain(cand_name)}")
        swapped = EngineState(id=other.id, case=base.case["case_key"], base=data.engine.id, by=state.by)
        link("The other way round", swapped)
    base_total, cand_total, kind = totals_ns(base.measured, data.measured)
    found = compared(base, data, (base_total, cand_total))
    if found is None:
        _no_times(base, data)
        return
    _fairness(base, data)
    st.markdown(f"**{fmt.sentence(explain(found, base_name=base_name, cand_name=cand_name))}**")
    usual = "layer" if (found.aligned_pct or 0.0) >= ALIGNED_PCT else "kind"
    by = switch("Rows", ("layer", "kind"), param="by", value=state.by or usual,
                words={"layer": "by layer", "kind": "by kind of work"})  # fmt: skip
    names_of = (base_name, cand_name, f"measured {kind}" if kind else "sum of the layers")
    _draw(found, by, names_of, revision=f"{base.case['layers_run']}/{data.case['layers_run']}/{by}")


def _no_times(base: EngineData, data: EngineData) -> None:
    missing = [side for side in (base, data) if side.profile is None or not side.profile.timed]
    which = " and ".join(f"`{side.engine.id}` ({fmt.plain(side.case['case_key'])})" for side in missing)
    st.info(f"No layer of {which} has a time: measure it with `profile = true`.", icon=":material/timer_off:")


def _fairness(base: EngineData, data: EngineData) -> None:
    """Say what else differs than the engine: batch, device."""
    told = []
    one, other = base.case, data.case
    if feed(one["case_key"]) != feed(other["case_key"]):
        told.append(f"{one['case_key']} against {other['case_key']}: these are not the same work")
    if one["device"] != other["device"]:
        told.append(f"{one['device']} against {other['device']}")
    if one["model"] != other["model"]:
        told.append(f"two models: {one['model']} and {other['model']}")
    if told:
        st.warning(fmt.plain("; ".join(told)), icon=":material/compare_arrows:")


def _draw(found: LayerDiff, by: str, names_of: tuple[str, str, str], *, revision: str) -> None:
    base_name, cand_name, what = names_of
    shown, listed = (steps(found, SHOWN), steps(found, LISTED)) if by == "layer" else (family_steps(found),) * 2
    has_totals = found.base_total_ns is not None and found.cand_total_ns is not None
    base_ns = found.base_total_ns if has_totals else found.base_layers_ns
    cand_ns = found.cand_total_ns if has_totals else found.cand_layers_ns
    left, right = st.columns(2, gap="medium")
    with left:
        figure = waterfall(shown, base_ns=base_ns or 0, cand_ns=cand_ns or 0, base_name=base_name,
                           cand_name=cand_name, what=what, revision=f"{revision}/waterfall")  # fmt: skip
        chart(figure, key="waterfall", alt=f"Waterfall of layers from {base_name} to {cand_name}, {what}")
    with right:
        _table(listed, (base_ns or 0, cand_ns or 0), base_name, cand_name, what)
    told = ["Blue: takes less time; orange: takes more; hatched: conversions and what no layer explains."]
    if has_totals:
        if overhead := overhead_told(found, base_name, cand_name):
            told.append(f"{overhead[0].upper()}{overhead[1:]}.")
        told.append("Residual: what no layer explains, such as gaps between launches and overlap.")
    if found.aligned_pct is not None:
        guessed = f", {found.guessed_pct:.1f} % matched by shape and order only" if found.guessed_pct else ""
        told.append(f"{found.aligned_pct:.1f} % of the layers' time is in work that both engines have{guessed}.")
    st.caption(fmt.plain(" ".join(told)))


def _table(rows: list[Step], totals: tuple[int, int], base_name: str, cand_name: str, what: str) -> None:
    total = Step(label=what, base_ns=totals[0], cand_ns=totals[1], kind="total")
    whole = total.delta_ns
    table = as_table(
        [*rows, total],
        {
            "Work": lambda step: step.label,
            "Change": lambda step: step.delta_ns / 1e3,
            "Share": lambda step: 100 * step.delta_ns / whole if whole else None,
            "Base": lambda step: None if step.base_ns is None else step.base_ns / 1e3,
            "Cand": lambda step: None if step.cand_ns is None else step.cand_ns / 1e3,
            **{heading: pick for heading, pick in WORDS.items() if any(map(pick, rows))},
        },
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        height=36 * 15 if len(rows) > 13 else "auto",
        placeholder=fmt.ABSENT,
        key="diff_table",
        alt=f"Groups of layers with their time in {base_name} and {cand_name}; the last row is their sum",
        column_config={
            "Work": st.column_config.TextColumn(width=200, pinned=True),
            "Change": number("Change (µs)", format="%+.1f"),
            "Share": number("Share (%)", format="%.1f"),
            "Base": number(f"{base_name} (µs)", format="%.1f"),
            "Cand": number(f"{cand_name} (µs)", format="%.1f"),
        },
    )
