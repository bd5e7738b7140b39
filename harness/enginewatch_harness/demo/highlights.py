"""What to look at first, with the numbers of the store."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from importlib import resources
from typing import Any

from enginewatch_db.connect import Reader
from enginewatch_db.workspace import Workspace
from enginewatch_harness.demo.catalogue import ENCODER_PLAN, LLAMA_PLAN, RESNET_PLAN

Row = dict[str, Any]


def highlights(workspace: Workspace) -> list[str]:
    """Return a few lines on the loaded runs, every number read from the store.

    Raises:
        StorageError: There is no store.
    """
    sql = resources.files("enginewatch_harness.demo").joinpath("highlights.sql").read_text(encoding="utf-8")
    with Reader.open(workspace) as reader:
        return lines(reader.console(sql).to_pylist())


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the lines that rows of ``highlights.sql`` give. Pure."""
    engines = [row for row in rows if row["plan_name"] == RESNET_PLAN]
    builds = [row for row in rows if row["plan_name"] == ENCODER_PLAN]
    loads = [row for row in rows if row["plan_name"] == LLAMA_PLAN and row["load_mode"] == "closed"]
    loads.sort(key=lambda row: row["concurrency"])
    return [_busy(engines), _memory(loads[0]), _power(loads[0], loads[-1]), _noise(engines, builds)]


def _busy(rows: Sequence[Row]) -> str:
    row = max(rows, key=_gap)
    second = max((item for item in rows if item["batch"] != row["batch"]), key=_gap)
    return (
        f"Busy is not SM activity: {row['case_key']} keeps the GPU busy {row['gpu_busy_time_pct']:.0f} % of the time "
        f"(nvidia-smi's utilisation), but its SMs are active {row['sm_active_pct']:.0f} %; "
        f"at batch {second['batch']} it is {second['gpu_busy_time_pct']:.0f} % against {second['sm_active_pct']:.0f} %."
    )


def _gap(row: Row) -> float:
    return float(row["gpu_busy_time_pct"] - row["sm_active_pct"])


def _memory(row: Row) -> str:
    return (
        f"Decode is memory-bound: {row['case_key']} moves {row['dram_bw_pct_of_peak']:.0f} % of the DRAM peak of "
        f"{row['dram_peak_gb_s']:.0f} GB/s, with the tensor cores {row['tensor_active_pct']:.0f} % active."
    )


def _power(one: Row, many: Row) -> str:
    times = many["output_tokens_s"] / one["output_tokens_s"]
    return (
        f"Then the power cap: {many['case_key']} makes {times:.0f} times the tokens/s of {one['case_key']}, the board "
        f"draws up to {many['power_max_w']:.0f} W against a limit of {many['power_limit_w']:.0f} W, and the SM clock "
        f"falls from {many['max_sm_clock_mhz']:.0f} to {many['sm_clock_min_mhz']:.0f} MHz."
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
