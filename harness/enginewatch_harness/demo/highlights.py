"""What to look at first, with the numbers of the store."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

from enginewatch_db.connect import Reader
from enginewatch_db.workspace import Workspace
from enginewatch_harness.demo import stamps
from enginewatch_harness.demo.catalogue import ENCODER_PLAN, LLAMA_PLAN, RESNET_PLAN

Row = dict[str, Any]


def highlights(workspace: Workspace) -> list[str]:
    """Return a few lines on the loaded runs, every measured number read from the store.

    Raises:
        StorageError: There is no store.
    """
    with Reader.open(workspace) as reader:
        plans = {str(row["session_id"]): str(row["plan_name"]) for row in reader.rows("gate_sessions")}
        runs = reader.rows("gate_runs", sessions=list(plans))
        values = reader.rows("gate_metrics", sessions=list(plans))
    metrics: dict[str, Row] = {}
    for item in values:
        metrics.setdefault(item["run_id"], {})[item["metric"]] = item["value"]
    return lines([_row(run, plans[run["session_id"]], metrics[run["run_id"]]) for run in runs if run["valid"]])


def _row(run: Row, plan: str, metrics: Row) -> Row:
    identity = json.loads(run["identity"])
    shape = next(iter(identity["shapes"].values()), [None])
    load = identity["load"]
    return {
        **metrics,
        "plan_name": plan,
        "case_key": run["case_key"],
        "batch": shape[0],
        "concurrency": load.get("concurrency"),
        "load_mode": load.get("mode"),
    }


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines that runs with their metrics give. Pure."""
    engines = [row for row in rows if row["plan_name"] == RESNET_PLAN]
    builds = [row for row in rows if row["plan_name"] == ENCODER_PLAN]
    loads = [row for row in rows if row["plan_name"] == LLAMA_PLAN and row["load_mode"] == "closed"]
    loads.sort(key=lambda row: row["concurrency"])
    return [_busy(engines), _memory(loads[0]), _power(loads[0], loads[-1]), _noise(engines, builds)]


def _busy(rows: Sequence[Row]) -> str:
    row = max(rows, key=_gap)
    second = max((item for item in rows if item["batch"] != row["batch"]), key=_gap)
    busy, active = (f"{row[metric]:.0f} %" for metric in ("gpu_busy_time_mean_pct", "sm_active_mean_pct"))
    busy_2, active_2 = (f"{second[metric]:.0f} %" for metric in ("gpu_busy_time_mean_pct", "sm_active_mean_pct"))
    return (
        f"Busy is not SM activity: {row['case_key']} keeps the GPU busy {busy} of the time (nvidia-smi's utilisation), "
        f"but its SMs are active {active}; at batch {second['batch']} it is {busy_2} against {active_2}."
    )


def _gap(row: Row) -> float:
    return float(row["gpu_busy_time_mean_pct"] - row["sm_active_mean_pct"])


def _memory(row: Row) -> str:
    peak_gb_s, share = stamps.device_facts()["dram_peak_gb_s"], row["dram_bw_mean_pct_of_peak"]
    return (
        f"Decode is memory-bound: {row['case_key']} moves {share:.0f} % of the DRAM peak of {peak_gb_s:.0f} GB/s, "
        f"with the tensor cores {row['tensor_active_mean_pct']:.0f} % active."
    )


def _power(one: Row, many: Row) -> str:
    facts = stamps.device_facts()
    limit_w = facts["power_limit_mw"] / 1000
    times = many["output_tokens_s"] / one["output_tokens_s"]
    return (
        f"Then the power cap: {many['case_key']} makes {times:.0f} times the tokens/s of {one['case_key']}, the board "
        f"draws up to {many['power_max_w']:.0f} W against a limit of {limit_w:.0f} W, and the SM clock "
        f"falls from {facts['max_sm_clock_mhz']} to {many['sm_clock_min_mhz']:.0f} MHz."
    )


def _noise(engines: Sequence[Row], builds: Sequence[Row]) -> str:
    by_case: dict[str, list[float]] = {}
    for row in engines:
        by_case.setdefault(row["case_key"], []).append(row["latency_mean_ms"])
    case, means = max(by_case.items(), key=lambda item: len(item[1]))
    sd = statistics.stdev(math.log(row["latency_p50_ms"]) for row in builds)
    return (
        f"Noise is a choice: {len(means)} runs of one engine ({case}) span {100 * (max(means) / min(means) - 1):.0f} % "
        f"under trtexec's defaults; {len(builds)} runs of {builds[0]['case_key']} over several builds vary by "
        f"{100 * sd:.2f} % (sd) with CUDA graph, spin-wait and no transfers."
    )
