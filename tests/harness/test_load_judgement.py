"""The one entry: everything that a load's table says, for our own loads and for those of other tools."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from enginewatch_db.metrics import METRICS
from enginewatch_db.validity import is_valid
from enginewatch_harness.load.judgement import judge_load
from enginewatch_harness.load.metrics import NOT_RECORDED, ClientStats
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.parse.vllm_bench import parse_results

MS = 1_000_000
RECORDED = Path(__file__).parents[1] / "data" / "harness" / "vllm" / "bf16-c1-rinf.json.gz"
LLM = [key for key, item in METRICS.items() if item.kind.value == "llm"]
QUIET = ClientStats(cpu_pct=12.0, waited_pct=0.2, loop_lateness_ns=np.full(50, 40_000))
CLIENT = ("send_lateness_p99_ms", "loop_lateness_p99_ms", "client_cpu_pct", "client_processes")


def by_name(judgement):
    return {item.metric: item for item in judgement.metrics}


@pytest.fixture(scope="module")
def steady_load(timed_table):
    """Four hundred requests of four streams, one after the other, 100 ms each."""
    starts = np.repeat(np.arange(100) * 0.1, 4)
    n = starts.size
    tokens = np.full(n, 6, dtype=np.int32)
    return timed_table(
        starts,
        np.full(n, 0.1),
        0.5,
        20.0,
        open_loop=False,
        stream=np.tile(np.arange(4, dtype=np.int32), 100),
        ttft_ns=np.full(n, 50 * MS),
        tpot_ns=np.full(n, 10 * MS),
        itl_ns=pa.array([[10 * MS] * 5] * n, pa.list_(pa.int64())),
        output_tokens=tokens,
        prompt_tokens=np.full(n, 32, dtype=np.int32),
        content_events=tokens,
    )


def test_a_steady_load_by_hand(steady_load):
    spec = LoadSpec(mode="closed", concurrency=4, slo={"ttft_ms": 60, "itl_ms": 9})
    found = judge_load(steady_load, spec, (500 * MS, 9_500 * MS), (QUIET,), devices=2, cores=8)
    assert found.reasons == ()
    assert found.notes == ()
    assert found.window_ns == (500 * MS, 9_500 * MS)
    assert [item.metric for item in found.metrics] == LLM
    value = {name: item.value for name, item in by_name(found).items()}
    expected = {
        "output_tokens_s": 240,
        "output_tokens_s_per_gpu": 120,
        "input_tokens_s": 1280,
        "total_tokens_s": 1520,
        "requests_s": 40,
        "requests_in_flight": 4,
        "little_law_ratio": 1,
        "load_drift_pct": 0,
        "goodput_requests_s": 0,
        "goodput_pct": 0,
        "ttft_p50_ms": 50,
        "itl_p999_ms": 10,
        "e2e_p99_ms": 100,
        "tokens_s_per_user": 100,
        "client_cpu_pct": 12,
        "client_processes": 1,
    }
    assert {name: value[name] for name in expected} == pytest.approx(expected)
    assert found.counts == pytest.approx(
        {
            "requests": 400,
            "completed": 360,
            "window_s": 9,
            "output_tokens": 2160,
            "input_tokens": 11520,
            "tokens_per_event": 1,
            "client_waited_pct": 0.2,
        }
    )


def test_a_fixed_number_of_requests_is_cut_and_says_how_much(steady_load):
    spec = LoadSpec(mode="closed", concurrency=4, requests=380)
    found = judge_load(steady_load, spec, (500 * MS, 12_000 * MS), (QUIET,))
    assert found.window_ns == (500 * MS, 10_000 * MS + 1)
    assert found.counts["ramp_down_s"] == pytest.approx(2)
    assert by_name(found)["requests_s"].value == pytest.approx(40, rel=0.02)


def test_another_tools_load_has_all_but_what_only_our_client_knows(steady_load):
    found = judge_load(steady_load, LoadSpec(mode="closed", concurrency=4), (500 * MS, 9_500 * MS))
    metrics = by_name(found)
    assert list(metrics) == LLM
    assert {metrics[name].absent_reason for name in CLIENT} == {NOT_RECORDED}
    assert metrics["requests_s"].value == pytest.approx(40)
    assert found.reasons == ()
    assert "client_waited_pct" not in found.counts


def test_a_recorded_load_of_vllm_is_valid_and_marked():
    text = gzip.decompress(RECORDED.read_bytes()).decode()
    (result,) = parse_results(text, "c1.json")
    spec = LoadSpec(mode="closed", concurrency=1, requests=8, slo={"ttft_ms": 100, "tpot_ms": 5})
    found = judge_load(result.requests, spec, result.window_ns, devices=1)
    assert [reason.code for reason in found.reasons] == ["tail_undersampled"]
    assert is_valid(found.reasons)
    assert "too few" in found.notes[0]
    metrics = by_name(found)
    reported = result.facts.reported
    # One stream that is never idle has no ramp-down: its last answer ends the load. The tool's streams have no number.
    assert metrics["output_tokens_s"].value == pytest.approx(reported["output_throughput"], rel=0.01)
    assert metrics["output_tokens_s_per_gpu"].value == metrics["output_tokens_s"].value
    assert metrics["requests_in_flight"].value == pytest.approx(1, abs=0.01)
    assert metrics["goodput_pct"].value == 100


def test_reasons_of_a_load_that_must_not_count(load_table):
    failing = {"status": "error", "error_class": "reset"}
    rows = [{"start": at, "output_tokens": 8, "tokenizer_output_tokens": 4} for at in range(10)]
    busy = ClientStats(cpu_pct=99.0, waited_pct=None, loop_lateness_ns=np.zeros(0, dtype=np.int64))
    found = judge_load(load_table(*rows, failing), LoadSpec(mode="closed"), (0, 1000 * MS), (busy,))
    codes = [reason.code for reason in found.reasons]
    assert codes == ["requests_failed", "too_few_samples", "client_bound", "token_counts_disagree"]
    assert not is_valid(found.reasons)
    assert any("in flight" in note for note in found.notes)


def test_an_overloaded_open_loop_is_rejected(timed_table):
    starts = np.arange(1000) * 0.01
    found = judge_load(
        timed_table(starts, 0.5 + starts * 0.2, 1.0, 10.0, open_loop=True, stream=pa.nulls(1000, pa.int32())),
        LoadSpec(mode="constant", rate_rps=100.0, concurrency=512),
        (1000 * MS, 10_000 * MS),
        (QUIET,),
    )
    assert [reason.code for reason in found.reasons] == ["load_not_steady"]
    assert "above the server's capacity" in found.reasons[0].detail


def test_answers_that_came_whole_are_told(load_table):
    whole = {"ttft_ns": None, "itl_ns": None, "content_events": 0, "e2e_ns": 80 * MS, "output_tokens": 8}
    found = judge_load(load_table(*[whole] * 30), LoadSpec(mode="closed"), (0, 1000 * MS), (QUIET,))
    metrics = by_name(found)
    assert metrics["e2e_p50_ms"].value == pytest.approx(80)
    assert metrics["ttft_p50_ms"].value is None
    assert any("whole" in note for note in found.notes)
    assert "tokens_per_event" not in found.counts


@pytest.mark.parametrize("rows", [[], [{"status": "error", "error_class": "connect_refused"}] * 3])
def test_a_load_that_brought_nothing(load_table, rows):
    found = judge_load(load_table(*rows), LoadSpec(mode="closed", requests=3, slo={"ttft_ms": 1}), (0, 0), (QUIET,))
    assert [item.metric for item in found.metrics] == LLM
    assert not is_valid(found.reasons)
    assert found.counts["completed"] == 0
    empty = by_name(judge_load(load_table(), LoadSpec(mode="poisson"), (0, 1000 * MS)))
    assert all(item.value is None for item in empty.values())
