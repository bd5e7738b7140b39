"""All metrics of a run, where it came from, and how to run it again."""

from __future__ import annotations

import json
import shlex
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.components.facts import draw_facts
from enginewatch_dashboards.components.run_data import RunData
from enginewatch_dashboards.components.tables import as_table
from enginewatch_dashboards.data import as_json
from enginewatch_db.metrics import METRICS


def metrics_table(data: RunData) -> None:
    """Draw every metric of the run with its interval, or why it is absent."""
    if not data.metrics:
        return
    order = list(METRICS)
    rows = sorted(data.metrics, key=lambda row: order.index(row["metric"]) if row["metric"] in METRICS else len(order))
    absent = sum(row["value"] is None for row in rows)
    with st.expander(f"All metrics ({len(rows)}, {absent} absent)", expanded=False, key="all_metrics"):
        table = as_table(
            rows,
            {
                "Metric": lambda row: fmt.metric_label(row["metric"]),
                "Value": lambda row: fmt.quantity(row["metric"], row["value"]),
                "95 % interval": lambda row: fmt.interval(row["ci_low"], row["ci_high"]),
                "n": "n",
                "Direction": lambda row: fmt.direction_hint(row["metric"]),
                "Absent because": lambda row: row["absent_reason"] or "",
                "Source": lambda row: row["source"] or "",
                "Key": "metric",
            },
        )
        st.dataframe(table, hide_index=True, alt="All metrics of this run")


def reproduce(data: RunData) -> None:
    """Draw how to run the same again."""
    st.subheader("Run it again")
    session = as_json(data.run["session_details"])
    plan = session.get("plan_path")
    command = data.provenance.get("command")
    if command:
        st.caption("What was executed")
        st.code(str(command), language="bash", wrap_lines=True)
    unknown = "" if plan else " (the plan's file name was not stored)"
    st.caption(f"The whole session, measured, stored and judged again{unknown}")
    commit = data.run["git_commit"]
    checkout = f"git checkout {commit}\n" if commit else ""
    st.code(f"{checkout}enginewatch run {shlex.quote(str(plan or 'PLAN'))}", language="bash", wrap_lines=True)
    if data.run["git_dirty"]:
        st.caption(":orange[The repository had changes that this commit does not hold.]")


def provenance(data: RunData) -> None:
    """Draw where the run came from: environment, versions, host, git, engine, bundle."""
    st.subheader("Provenance")
    run = data.run
    groups: dict[str, dict[str, Any]] = {
        "Environment": {**as_json(run["environment"]), **(data.provenance.get("versions") or {})},
        "Host and device": {
            "device": run["device"],
            "devices": run["device_count"],
            **as_json(run["host"]),
            **{f"{facts.get('device')} {key}": value for facts in data.devices for key, value in facts.items()
               if key not in ("device", "source", "name") and not isinstance(value, dict | list)},
        },
        "Source": {
            "commit": run["git_commit"],
            "branch": run["git_branch"],
            "uncommitted changes": run["git_dirty"],
            "triggered by": run["trigger"],
            "model SHA-256": data.provenance.get("model_sha256"),
            "bundle": run["bundle_name"],
            "bundle SHA-256": run["bundle_sha256"],
            "ingested": fmt.when(run["ingested_at"]),
        },
        "Engine": {
            "path": run["engine_path"],
            "SHA-256": run["engine_sha256"],
            "size": None if run["engine_size_bytes"] is None else f"{run['engine_size_bytes'] / 2**20:,.1f} MiB",
            "from the cache": run["engine_cached"],
            "build time": None if run["build_time_s"] is None else fmt.seconds(run["build_time_s"]),
            "realised precision": run["realised_precision"],
            "fingerprint": run["fingerprint"],
        },
        "Identity: what must be equal to compare": _flat(as_json(run["identity"])),
        "Stages": {name: fmt.seconds(value) for name, value in as_json(run["stage_s"]).items()},
    }  # fmt: skip
    draw_facts(groups)
    notes = data.provenance.get("notes") or []
    if notes:
        st.markdown("Notes of the tool: " + "; ".join(fmt.plain(str(note)) for note in notes))


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {key: json.dumps(value) if isinstance(value, dict) and value else value for key, value in identity.items()}


def raw(data: RunData) -> None:
    """Draw all stored facts as JSON, folded."""
    nested = ("quality", "devices", "provenance", "stage_s", "identity", "session_details", "host", "environment",
              "engine_details")  # fmt: skip
    with st.expander("Raw JSON", key="raw_json"):
        facts = {key: json.loads(value) if key in nested and value else value for key, value in data.run.items()}
        facts |= {"metrics": data.metrics, "reasons": data.reasons, "phases": data.phases}
        st.json(json.loads(json.dumps(facts, default=str)), expanded=1)
