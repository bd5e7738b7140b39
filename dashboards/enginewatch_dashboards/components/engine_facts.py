"""What is known of an engine: what it was made from, its file, its layers, and where it was used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.engine_data import EngineData
from enginewatch_dashboards.components.facts import draw_facts
from enginewatch_dashboards.components.layers import layers_section
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.data import as_json
from enginewatch_dashboards.state import RunsState, href

KEY_OPTIONS = "key_options"
"""Where an engine's details keep the options that its key is made of."""


def facts(data: EngineData) -> None:
    """Draw the facts of the engine, folded: the numbers above are what most visits want."""
    row = data.engine.facts
    details = as_json(row["details"])
    made = next(iter(data.store.shared("engines_provenance", engine=data.engine.sha256)), {})
    provenance, facets = as_json(made.get("provenance")), as_json(made.get("facets"))
    options: dict[str, Any] = details.get(KEY_OPTIONS) or {}
    groups: dict[str, dict[str, object]] = {
        "Made from: what its key holds": {
            "model": row["model"],
            "model SHA-256": row["model_sha256"],
            "backend": row["backend"],
            "version": row["tool_version"] or (provenance.get("versions") or {}).get(row["backend"]),
            "device": row["device"],
            "compute capability": row["compute_capability"],
            "precision": row["precision"],
            "realised precision": row["realised_precision"],
            **{f"shape of {name}": shape for name, shape in as_json(row["shapes"]).items()},
            **options,
        },
        "File": {
            "SHA-256": row["engine_sha256"],
            "key": row["engine_key"],
            "path": row["path"],
            "size": f"{row['size_bytes'] / 2**20:,.1f} MiB",
            "fingerprint": row["fingerprint"],
            "build": row["build_number"] + 1,
            "built": None if row["built_at"] is None else f"{fmt.when(row['built_at'])} UTC",
            "build time": None if row["build_time_s"] is None else fmt.seconds(row["build_time_s"]),
            "peak GPU memory": _mib(row["peak_gpu_mem_mib"]),
            "peak host memory": _mib(row["peak_host_mem_mib"]),
            "command": details.get("command"),
        },
        "Environment of its newest run": {**facets, **(provenance.get("versions") or {})},
    }
    with st.expander("Facts: what it was made from, file, environment", key="engine_facts"):
        draw_facts(groups)


def _mib(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f} MiB"


def layers(data: EngineData) -> None:
    """Draw the layers, or why there are none."""
    st.subheader("Layers")
    if data.profile is None:
        st.caption(
            "No run of this engine in this case has a layer profile: measure with the backend's "
            "`options = { profile = true }`."
        )
        return
    if not data.case["layers_valid"]:
        st.caption(":orange[The run that they are from does not count: see its checklist.]")
    gpu_ms, latency_ms = data.measured["gpu_ms"], data.measured["latency_ms"]
    layers_section(
        data.profile,
        revision=f"{data.engine.id}/{data.case['layers_run']}",
        measured_ms=gpu_ms or latency_ms,
        measured_as="median on the GPU without a profiler" if gpu_ms else "mean end to end",
    )


def uses(data: EngineData) -> None:
    """Draw the sessions that used the engine, why runs do not count, and the other builds of its key."""
    rows = data.store.shared("engines_usage", engine=data.engine.sha256)
    st.subheader("Where it was used")
    table = as_table(
        rows,
        {
            "Runs": lambda row: f"/{href(RunsState(session=row['session_id'], case=row['case_key']))}",
            "Session": lambda row: row["label"] or fmt.short(row["session_id"]),
            "Began (UTC)": lambda row: fmt.when(datetime.fromtimestamp(row["started_us"] / 1e6, UTC)),
            "Plan": "plan_name",
            "Case": "case_key",
            "Count": lambda row: f"{row['valid_runs']} of {row['runs']}",
            "Latency p50 (ms)": "latency_p50_ms",
            "Inferences/s": "throughput_qps",
            "Reasons": lambda row: ", ".join(row["reasons"] or ()),
        },
    )
    number = st.column_config.NumberColumn(format="%.4g")
    st.dataframe(
        table,
        hide_index=True,
        placeholder=fmt.ABSENT,
        alt="Sessions that used this engine",
        column_config={
            "Runs": st.column_config.LinkColumn("Runs", display_text="open", width=55, pinned=True),
            "Latency p50 (ms)": number,
            "Inferences/s": number,
            "Reasons": st.column_config.TextColumn(width=320),
        },
    )
    _builds(data)


def _builds(data: EngineData) -> None:
    rows = data.store.shared("engines_builds", key=data.engine.facts["engine_key"])
    if len(rows) < 2:
        return
    files = len({row["engine_sha256"] for row in rows})
    st.markdown(f"**{fmt.count(len(rows), 'build')} of its key**, from which {fmt.count(files, 'file')} came out")
    table = as_table(
        rows,
        {
            "Build": lambda row: row["build_number"] + 1,
            "Checksum": lambda row: row["engine_sha256"][:16],
            "Build time (s)": "build_time_s",
            "Runs": "runs",
        },
    )
    st.dataframe(table, hide_index=True, placeholder=fmt.ABSENT, width="content", alt="Builds of this engine's key")
