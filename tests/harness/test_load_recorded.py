"""Runs of vLLM 0.20.0 on an H200, recorded by ``enginewatch load``: judged again they say what they said."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enginewatch_db.bundle import read
from enginewatch_db.ingest import ingest
from enginewatch_harness.load.judgement import judge_load
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.targets.summary import summarise_server

RECORDED = Path(__file__).parents[1] / "data" / "harness" / "load" / "h200-vllm-bf16"


def window_ns(record):
    phase = next(mark for mark in record.phases if mark.name == "measure")
    return phase.start_ns - record.t0_ns, phase.end_ns - record.t0_ns


@pytest.mark.parametrize(("level", "streams", "tokens_s"), [("c1", 1, 207.2), ("c16", 16, 2_459.7)])
def test_judged_again_the_metrics_are_those_of_the_day(level, streams, tokens_s):
    bundle = read(RECORDED / level)
    record = bundle.record
    stored = {metric.metric: metric for metric in record.metrics}
    requests = pq.read_table(bundle.tables["llm_requests"])
    judged = judge_load(requests, LoadSpec(mode="closed", concurrency=streams), window_ns(record))
    assert {item.metric for item in judged.metrics} <= set(stored)
    found = {item.metric: item.value for item in judged.metrics}
    for name in ("ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p999_ms", "tpot_p50_ms", "e2e_p99_ms"):
        assert found[name] == pytest.approx(stored[name].value, rel=1e-9)
    assert found["output_tokens_s"] == pytest.approx(stored["output_tokens_s"].value, rel=1e-9)
    assert found["output_tokens_s"] == pytest.approx(tokens_s, rel=0.01)  # the three repeats' median
    assert found["requests_in_flight"] == pytest.approx(streams, rel=0.02)
    assert found["little_law_ratio"] == pytest.approx(1, abs=0.1)
    assert requests["error"].null_count == requests.num_rows - requests["error_class"].to_pylist().count("cancelled")


def test_the_servers_own_view_agrees_with_the_clients():
    bundle = read(RECORDED / "c16")
    samples = pq.read_table(bundle.tables["server_samples"])
    found = {item.metric: item.value for item in summarise_server(samples, window_ns(bundle.record), absent=None)}
    assert found["server_running_mean"] == pytest.approx(16, abs=2)
    assert found["server_waiting_max"] == 0
    assert 0 < found["server_kv_cache_max_pct"] < 5
    assert found["server_preemptions"] == 0


def test_they_go_into_a_store_with_the_gpus_telemetry(workspace):
    import shutil

    for level in ("c1", "c16"):
        bundle = read(RECORDED / level)
        shutil.copytree(RECORDED / level, workspace.spool / bundle.record.run_id)
    report = ingest(workspace)
    assert len(report.ingested) == 2
    assert report.quarantined == {}
    record = read(RECORDED / "c1").record
    values = {metric.metric: metric.value for metric in record.metrics}
    # One stream of decoding reads all weights for each token: bound by DRAM, tensor cores idle.
    assert values["dram_bw_mean_pct_of_peak"] > 55
    assert values["tensor_active_mean_pct"] < 10
    assert {reason.code for reason in record.reasons} == {"tail_undersampled"}  # the server itself is no foreigner
