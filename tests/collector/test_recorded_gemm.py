"""A recording of this collector on a real H200 under a bf16 GEMM: what the summary must make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enginewatch_collector.summary import summarise, telemetry_reasons

FOLDER = Path(__file__).parents[1] / "data" / "collector" / "h200-gemm"


@pytest.fixture(scope="module")
def recorded():
    table = pq.read_table(FOLDER / "telemetry.parquet")
    quality = json.loads((FOLDER / "collector.json").read_text())["quality"]
    t_ns = table.column("t_ns").to_numpy()
    return table, quality, int(t_ns.min()), int(t_ns.max())


def test_a_gemm_is_tensor_bound_and_power_capped(recorded):
    table, _, start_ns, end_ns = recorded
    found = {metric.metric: metric for metric in summarise(table, start_ns, end_ns)}
    assert found["sm_active_mean_pct"].value == pytest.approx(96.2, abs=1)
    assert found["tensor_active_mean_pct"].value == pytest.approx(93.4, abs=1)
    assert found["dram_bw_mean_pct_of_peak"].value == pytest.approx(16.7, abs=1)
    assert found["sm_active_mean_pct"].source == "gpm"
    assert found["gpu_busy_time_mean_pct"].source == "nvml_util"
    assert found["power_mean_w"].value == pytest.approx(690, abs=10)
    assert found["sm_clock_mean_mhz"].value < 1600


def test_the_cap_and_the_stranger_are_reasons(recorded):
    codes = {reason.code for reason in telemetry_reasons(*recorded)}
    assert {"power_capped", "foreign_process"} <= codes
    assert not codes & {"telemetry_gaps", "thermally_throttled", "gpu_lost", "nan_telemetry"}
