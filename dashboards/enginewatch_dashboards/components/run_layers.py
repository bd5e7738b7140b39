"""What a run shows of the inside of its engine: layers, kernels, accuracy."""

from __future__ import annotations

from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.engine_data import layers_of
from enginewatch_dashboards.components.layers import layers_section
from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.components.run_data import RunData
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.components.verdict import badge_text
from enginewatch_dashboards.data import Row, as_json
from enginewatch_dashboards.engines import ACCURACY, ID_CHARS
from enginewatch_dashboards.state import EngineState, RunState

MEASURES = ("output_rel_l2", "output_max_abs", "output_cosine", "output_top1_agreement_pct")
AT_LEAST = ("output_cosine", "output_top1_agreement_pct")
MAX_KERNELS = 500


def layers(data: RunData) -> None:
    """Draw the engine's layers; for an engine without a layer profile, one line that says so."""
    gpu_ms, latency_ms = data.value("gpu_time_p50_ms"), data.value("latency_p50_ms")
    found = layers_of(data.store, data.run_id, data.run["device"], gpu_ms or latency_ms)
    sha256 = data.run["engine_sha256"]
    if found is None and sha256 is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Layers")
        if sha256 is not None:
            link("Engine, and what changed", EngineState(id=sha256[:ID_CHARS], case=data.run["case_key"]))
    if found is None:
        st.caption("This run has no layer profile: an engine is profiled once a session, with `profile = true`.")
        return
    layers_section(
        found,
        revision=data.run_id,
        measured_ms=gpu_ms or latency_ms,
        measured_as="median on the GPU" if gpu_ms else "median end to end",
    )


def kernels(data: RunData) -> None:
    """Draw the kernels that a system profiler saw; nothing where none looked."""
    rows = data.store.rows("kernels", run=data.run_id, limit=MAX_KERNELS)
    if not rows:
        return
    st.subheader("Kernels")
    cut = f", the {len(rows):,} that took longest" if rows[0]["n"] > len(rows) else ""
    st.caption(f"{fmt.count(rows[0]['n'], 'kernel')}{cut}. Source: {rows[0]['source'] or 'unknown'}.")
    headings = {"Total (ms)": "total_ms", "Mean (µs)": "mean_us", "Median (µs)": "median_us", "Least (µs)": "min_us",
                "Most (µs)": "max_us", "Share (%)": "time_pct"}  # fmt: skip
    table = as_table(
        rows, {"Kernel": "name", "Calls": "calls", **headings, "Layer": "layer", "Grid": "grid", "Block": "block"}
    )
    config: dict[str, Any] = {heading: st.column_config.NumberColumn(format="%.4g") for heading in headings}
    st.dataframe(
        table,
        hide_index=True,
        height=420 if len(rows) > 11 else "auto",
        placeholder=fmt.ABSENT,
        alt="Kernels, those that took longest first",
        column_config={"Kernel": st.column_config.TextColumn(width=420, pinned=True), **config},
    )


def accuracy(data: RunData) -> None:
    """Draw how far the outputs are from those of the fp32 model, with the limits, or why that is not known."""
    found = {row["metric"]: row for row in data.metrics if row["metric"] in MEASURES}
    if data.run["engine_sha256"] is None and not found:
        return
    st.subheader("Accuracy")
    if not found:
        st.caption("The outputs of this run were not compared with fp32: it was imported, or is of an older version.")
        return
    known = data.store.row("run_accuracy", run=data.run_id) or {}
    evidence = as_json(known.get("evidence"))
    look = ACCURACY.get(evidence.get("state"), ACCURACY[None])
    told = fmt.sentence(known["title"]) if known.get("title") else "no limit was applied yet: run `enginewatch judge`"
    st.markdown(f"{badge_text(look)} {told}")
    if all(found[metric]["value"] is None for metric in found):
        reason = next((row["absent_reason"] for row in found.values() if row["absent_reason"]), "no reason was given")
        st.markdown(f"Not measured in this run: {fmt.sentence(reason)}")
        if known.get("run_id") and known["run_id"] != data.run_id:
            link(f"Run {known['repeat'] + 1} of this session has it", RunState(id=known["run_id"]))
        return
    rows = [found[metric] for metric in MEASURES if metric in found]
    st.table(
        {
            "Measure": [fmt.metric_label(row["metric"]) for row in rows],
            "Value": [_value(row) for row in rows],
            "Limit": [_limit(row["metric"], evidence) for row in rows],
            "": [fmt.direction_hint(row["metric"]) for row in rows],
        },
        border="horizontal",
        hide_index=True,
        alt="Accuracy of the outputs against fp32, with limits",
    )
    st.caption("Outputs against those of the fp32 model (ONNX Runtime on the CPU) on the same inputs.")


def _value(row: Row) -> str:
    if row["value"] is None:
        return f"– ({row['absent_reason']})" if row["absent_reason"] else fmt.ABSENT
    if row["metric"] not in AT_LEAST:
        return fmt.tiny(row["value"])
    # Three nines and five nines are far apart: no digit is rounded away.
    return f"{row['value']:.6g} {fmt.metric_unit(row['metric'])}".rstrip()


def _limit(metric: str, evidence: dict[str, Any]) -> str:
    limit = evidence.get(f"limit_{metric}")
    if limit is None:
        return "none"
    return f"{'≥' if metric in AT_LEAST else '≤'} {limit:g}"
