"""Telemetry of a run: what the GPU's units did, what the host did, and how the same model fares elsewhere."""

from __future__ import annotations

from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components import run_llm
from enginewatch_dashboards.components.chart import chart
from enginewatch_dashboards.components.inputs import switch
from enginewatch_dashboards.components.run_data import RunData, as_rows
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.figures import telemetry as figures
from enginewatch_dashboards.figures.siblings import siblings as siblings_figure
from enginewatch_dashboards.figures.utilisation import utilisation
from enginewatch_dashboards.state import RunState, href

CORE_SLOTS = 200
SIDE_PX = 420
SIBLING_COLUMNS: dict[str, str] = {
    "latency_p50_ms": "latency p50 (ms)",
    "throughput_items_s": "items/s",
    "ttft_p50_ms": "TTFT p50 (ms)",
    "itl_p50_ms": "ITL p50 (ms)",
    "output_tokens_s": "tokens/s",
    "gpu_busy_time_mean_pct": "GPU busy time (%)",
    "sm_active_mean_pct": "SM active (%)",
    "tensor_active_mean_pct": "tensor active (%)",
    "dram_bw_mean_pct_of_peak": "DRAM of peak (%)",
    "power_mean_w": "power (W)",
    "sm_clock_mean_mhz": "SM clock (MHz)",
    "cpu_util_mean_pct": "CPU (%)",
}


def telemetry(data: RunData, state: RunState) -> None:
    """Draw the telemetry; say why where there is none."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Telemetry", width="stretch")
        as_rows(data, "telemetry", "t_ns")
    readings = data.store.columns("telemetry", run=data.run_id, buckets=figures.BUCKETS)
    run_llm.server_words(data)
    if not readings["t_s"].size:
        st.caption("No telemetry covers this run: nothing can be said about what limited it.")
    gpus = figures.gpus(readings)
    if gpus:
        gpu = gpus[0]
        if len(gpus) > 1:
            gpu = switch("GPU", gpus, param="gpu", value=state.gpu or gpu, words={})
        _gpu(data, readings, gpu)
    cores = data.store.columns("cores", run=data.run_id, bins=CORE_SLOTS)
    above = None if gpus else run_llm.panels_above(data, device=None)
    if above is not None or any(device == "host" for device in readings["device"]) or cores["core"].size:
        figure = figures.host_timeline(readings, cores, data.phases, above=above, revision=f"{data.run_id}/host")
        loaded = "Requests in flight, the server's own metrics, and " if above else ""
        chart(figure, key="host", alt=f"{loaded}CPU utilisation of the host over the run, mean and per core")


def _gpu(data: RunData, readings: Any, gpu: str) -> None:  # noqa: ANN401 (columns by name)
    facts = data.device_facts(gpu)
    limit_mw = facts.get("power_limit_mw")
    bars = utilisation(
        data.metrics, power_limit_w=limit_mw / 1e3 if limit_mw else None, revision=f"{data.run_id}/utilisation"
    )
    told = insight(data, limit_w=limit_mw / 1e3 if limit_mw else None)
    if told:
        st.markdown(told)
    grid = st.grid(2, min_column_width=SIDE_PX)
    if bars is not None:
        with grid.cell():
            chart(bars, key="utilisation", alt="Utilisation of the GPU by counter: " + told.replace("*", ""))
    rows = data.store.rows("run_siblings", run=data.run_id)
    by_load = siblings_figure(rows, revision=f"{data.run_id}/siblings")
    if by_load is not None:
        with grid.cell():
            chart(by_load, key="siblings", alt="Utilisation of this model's cases by batch or concurrency")
    above = run_llm.panels_above(data, device=gpu)
    figure = figures.gpu_timeline(readings, data.phases, facts, gpu=gpu, above=above, revision=f"{data.run_id}/{gpu}")
    loaded = "requests in flight, the server's own metrics, " if above else ""
    chart(
        figure,
        key="gpu",
        alt=f"{gpu} over the run: {loaded}SM activity against the utilisation rate, DRAM and tensor activity, power, "
        "SM clock",
    )


def insight(data: RunData, *, limit_w: float | None) -> str:
    """Return in words what the counters of this run say that the utilisation rate does not."""
    busy, sm = data.value("gpu_busy_time_mean_pct"), data.value("sm_active_mean_pct")
    parts = []
    if busy is not None and sm is not None:
        parts.append(
            f"The utilisation rate says **{busy:.0f} %**; the SMs were active for **{sm:.0f} %** of their cycles"
        )
    elif busy is not None:
        parts.append(f"The utilisation rate says {busy:.0f} %, which is time with any kernel running, not SM activity")
    power, capped = data.value("power_max_w") or data.value("power_mean_w"), data.value("power_capped_time_pct")
    if capped:
        at = f" of {limit_w:.0f} W" if limit_w else ""
        parts.append(f"the power cap{at} held the clock down for **{capped:.0f} %** of the time")
    elif power is not None and limit_w:
        parts.append(f"power stayed at {power / limit_w * 100:.0f} % of its limit")
    return "; ".join(parts) + ("." if parts else "")


def siblings(data: RunData) -> None:
    """Draw the other cases of this model in this session; nothing where this is the only one."""
    rows = data.store.rows("run_siblings", run=data.run_id)
    if len(rows) < 2:
        return
    st.subheader(f"The same model in this session: {fmt.plain(data.run['model'])}")
    shown = {key: words for key, words in SIBLING_COLUMNS.items() if any(row[key] is not None for row in rows)}
    table = as_table(
        rows,
        {
            "Run": lambda row: f"/{href(RunState(id=row['run_id']))}",
            "Case": lambda row: ("▸ " if row["here"] else "") + row["case_key"],
            "Runs": "n_runs",
            **{words: key for key, words in shown.items()},
        },
    )
    number = st.column_config.NumberColumn(format="%.4g")
    st.dataframe(
        table,
        hide_index=True,
        placeholder=fmt.ABSENT,
        alt="Medians of the cases of this model in this session",
        column_config={
            "Run": st.column_config.LinkColumn("Run", display_text="open", width=60),
            **dict.fromkeys(shown.values(), number),
        },
    )
    st.caption("Medians over valid runs. What moves along with the load is what limits it.")
