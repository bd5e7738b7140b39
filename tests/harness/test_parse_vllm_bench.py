"""Results of ``vllm bench serve``: recorded ones, odd ones, and any that hypothesis thinks of."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_db.tables import LLM_REQUESTS
from enginewatch_harness.demo import files
from enginewatch_harness.demo.catalogue import SERVER_RUNS
from enginewatch_harness.load.arrays import load_arrays
from enginewatch_harness.load.metrics import load_metrics, measured, totals
from enginewatch_harness.parse.vllm_bench import error_class, parse_result, parse_results

RECORDED = Path(__file__).parents[1] / "data" / "harness" / "vllm" / "bf16-c1-rinf.json.gz"
TOOL_NAMES = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}


@pytest.fixture(scope="module")
def recorded():
    """The file as vLLM 0.20 wrote it: eight requests, one at a time."""
    return gzip.decompress(RECORDED.read_bytes()).decode()


@pytest.fixture(scope="module", params=[run.name for run in SERVER_RUNS])
def load(request):
    """Each of the loads of the demo."""
    name = f"vllm/{request.param}.json.gz"
    return parse_results(files.read_text(name), name)[0]


def result_of(requests, **changes):
    """Build a result as the tool saves it; ``requests`` are (start, ttft, gaps, tokens in, tokens out, error)."""
    columns = ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors")
    content = {name: [item[i] for item in requests] for i, name in enumerate(columns)}
    ends = [item[0] + item[1] + sum(item[2]) for item in requests]
    base = {
        "date": "20261120-221057",
        "endpoint_type": "openai",
        "model_id": "m",
        "num_prompts": len(requests),
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 4,
        "duration": max(ends, default=1.0) - min((item[0] for item in requests), default=0.0) + 0.01,
        "request_goodput:": None,
        "p99_ttft_ms": 3.5,
    }
    return {**base, **content, **changes}


GOOD = (10.0, 0.5, [0.1, 0.2], 8, 3, "")
LATER = (10.25, 0.25, [0.125], 8, 2, "")


def test_the_recorded_file_becomes_requests_relative_to_the_start_of_the_load(recorded):
    (result,) = parse_results(recorded, "c1.json")
    facts, table = result.facts, result.requests
    assert table.schema == LLM_REQUESTS
    assert table.num_rows == facts.completed == 8
    assert (facts.mode, facts.concurrency, facts.rate_rps, facts.failed) == ("closed", 1, None, 0)
    assert (facts.input_tokens, facts.output_tokens, facts.model, facts.client) == (4096, 1024, "m7b", "openai")
    assert facts.date == "20261120-221057"
    first = table.slice(0, 1).to_pylist()[0]
    assert first["ttft_ns"] == 22_354_981
    assert first["itl_ns"][:2] == [4_719_029, 4_413_910]
    assert first["content_events"] == 128
    assert first["e2e_ns"] == first["ttft_ns"] + sum(first["itl_ns"])
    assert first["tpot_ns"] == round(sum(first["itl_ns"]) / 127)
    assert first["intended_at_ns"] is None  # the tool does not tell when a request was due
    # The load began 0.7 ms before its first request, and lasted as long as the tool says.
    assert 0 < first["sent_at_ns"] < 1_000_000
    assert result.window_ns == (0, pytest.approx(4_980_257_068, abs=2))
    assert facts.origin_s + first["sent_at_ns"] / 1e9 == pytest.approx(326.92697259, abs=1e-8)


def test_quantiles_by_the_tools_own_definition_are_the_tools_quantiles(load):
    """``numpy.percentile`` of the values in seconds, times 1000 (vllm/benchmarks/serve.py)."""
    chosen = measured(load.requests)
    for ours, theirs in TOOL_NAMES.items():
        values_ns = load_arrays(chosen).gaps_ns if ours == "itl" else chosen[f"{ours}_ns"].to_numpy()
        for level in (50, 90, 95, 99):
            found = np.percentile(values_ns / 1e9, level) * 1000
            # The tool reads its clock once more for the end of a request: about 1 us on E2E and so on TPOT.
            tolerance = 1e-9 if ours in ("ttft", "itl") else 5e-6
            assert found == pytest.approx(load.facts.reported[f"p{level}_{theirs}_ms"], rel=tolerance)


def test_our_metrics_differ_from_the_tools_by_no_more_than_the_definition_of_a_quantile(load):
    counted = totals(load.requests, load.window_ns)
    metrics = {item.metric: item for item in load_metrics(load.requests, counted)}
    for ours, theirs in TOOL_NAMES.items():
        for level in ("p50", "p99"):
            metric = metrics[f"{ours}_{level}_ms"]
            reported = load.facts.reported[f"{level}_{theirs}_ms"]
            assert (metric.ci_low or 0.0) <= reported <= (metric.ci_high or math.inf)
    assert metrics["output_tokens_s"].value == pytest.approx(load.facts.reported["output_throughput"], rel=1e-6)
    assert metrics["total_tokens_s"].value == pytest.approx(load.facts.reported["total_token_throughput"], rel=1e-6)
    assert metrics["requests_s"].value == pytest.approx(load.facts.reported["request_throughput"], rel=1e-6)
    assert metrics["requests_failed_pct"].value == 0


def test_every_token_of_the_recorded_loads_lies_inside_the_window(load):
    assert totals(load.requests, load.window_ns).output_tokens == pytest.approx(load.facts.output_tokens)
    assert totals(load.requests, load.window_ns).completed == load.facts.completed
    assert load.requests["sent_at_ns"].to_numpy().min() >= 0


@pytest.mark.parametrize(
    ("rate", "burstiness", "mode", "rate_rps"),
    [
        ("inf", 1.0, "closed", None),
        (math.inf, 1.0, "closed", None),
        (None, 1.0, "closed", None),
        (20.0, 1.0, "poisson", 20.0),
        (20, None, "poisson", 20.0),
        (20.0, 2.5, "gamma", 20.0),
        (20.0, math.inf, "constant", 20.0),
    ],
)
def test_the_rate_tells_how_requests_arrived(rate, burstiness, mode, rate_rps):
    facts = parse_result(result_of([GOOD], request_rate=rate, burstiness=burstiness), "r").facts
    assert (facts.mode, facts.rate_rps) == (mode, rate_rps)


def test_without_a_limit_all_requests_are_in_flight_at_once():
    assert parse_result(result_of([GOOD, LATER], max_concurrency=None), "r").facts.concurrency == 2


def test_a_file_of_appended_results_has_one_in_each_line():
    lines = [json.dumps(result_of([GOOD])), "", json.dumps(result_of([GOOD, LATER], max_concurrency=2)), ""]
    first, second = parse_results("\n".join(lines), "all.json")
    assert (first.facts.completed, second.facts.completed) == (1, 2)


def test_a_cut_line_is_refused_with_its_number():
    text = json.dumps(result_of([GOOD])) + "\n" + json.dumps(result_of([GOOD]))[:-20]
    with pytest.raises(UsageError, match=r"all\.json, line 2, is not JSON"):
        parse_results(text, "all.json")


def test_failed_requests_have_no_latency_and_count_as_failed():
    trace = 'Traceback (most recent call last):\n  File "x"\naiohttp.client_exceptions.ClientConnectorError: no\n'
    broken = (10.1, 0.0, [], 8, 0, trace)
    refused = (10.2, 0.0, [], 8, 0, "Service Unavailable")
    silent = (0.0, 0.0, [], 8, 0, "")
    result = parse_result(result_of([GOOD, broken, refused, silent], duration=0.9), "r")
    rows = result.requests.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "error", "error", "error"]
    assert [row["error_class"] for row in rows] == [None, "ClientConnectorError", "http_error", "no_content"]
    assert all(row["ttft_ns"] is None and row["e2e_ns"] is None for row in rows[1:])
    assert rows[3]["sent_at_ns"] is None  # it never got so far
    assert (result.facts.completed, result.facts.failed, result.facts.output_tokens) == (1, 3, 3)
    assert totals(result.requests, result.window_ns).output_tokens == 3


def test_an_all_failed_run_is_refused_because_its_zeros_are_no_latencies():
    failed = (10.0, 0.0, [], 8, 0, "Connection refused")
    with pytest.raises(MeasurementError, match=r"all 2 requests failed.*Connection refused") as caught:
        parse_result(result_of([failed, failed]), "r")
    assert caught.value.code == "load_failed"


@pytest.mark.parametrize("name", ["ttfts", "itls", "start_times", "input_lens", "output_lens", "errors"])
def test_a_result_without_its_single_requests_is_refused(name):
    content = result_of([GOOD])
    del content[name]
    with pytest.raises(UsageError, match=rf"has no list '{name}'.*--save-detailed"):
        parse_result(content, "r")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ttfts": [0.5, 0.5]}, "differ in length"),
        ({"ttfts": [math.nan]}, "ttft = nan"),
        ({"ttfts": [0.0]}, "not streamed"),
        ({"itls": [[0.1, -0.2]]}, "itl = -0.2"),
        ({"start_times": [None]}, "start_time = None"),
        ({"duration": 0}, "duration = 0"),
        ({"duration": None}, "duration = None"),
        ({"duration": 1e12}, "beyond any clock"),
        ({"start_times": [0.0]}, "no request has a start_time"),
        ({"duration": 0.2}, "span 0.800 s, but duration says 0.200 s"),
        ({"request_rate": "fast"}, "request_rate = 'fast'"),
        ({"request_rate": -1}, "request_rate = -1"),
    ],
)
def test_an_odd_result_is_refused_with_the_value(changes, words):
    with pytest.raises(UsageError, match=words):
        parse_result(result_of([GOOD], **changes), "r")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("\n \n", "is empty"), ("[1, 2]", "no result"), ("TTFT: 3 ms", "line 1, is not JSON")],
)
def test_what_is_no_result_file_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_results(text, "r")


def test_a_result_of_no_request_is_refused():
    with pytest.raises(UsageError, match="holds no request"):
        parse_result(result_of([]), "r")


@given(st.text(max_size=200))
def test_any_error_text_has_a_class(text):
    assert error_class(text)


SECONDS = st.integers(1, 5_000_000_000).map(lambda ns: ns / 1e9)
REQUESTS = st.lists(
    st.tuples(
        st.integers(1_000_000_000, 900_000_000_000).map(lambda ns: ns / 1e9),
        SECONDS,
        st.lists(st.integers(0, 1_000_000_000).map(lambda ns: ns / 1e9), max_size=5),
        st.integers(1, 4096),
        st.integers(1, 512),
        st.just(""),
    ),
    min_size=1,
    max_size=8,
)


@given(REQUESTS, st.floats(0, 2))
def test_any_result_is_read_to_the_nanosecond(requests, idle_s):
    content = result_of(requests)
    content["duration"] += idle_s
    result = parse_result(json.loads(json.dumps(content)), "r")
    rows = result.requests.to_pylist()
    origin_s, (begin, end) = result.facts.origin_s, result.window_ns
    for row, (start, ttft, gaps, isl, osl, _) in zip(rows, requests, strict=True):
        assert row["ttft_ns"] == round(ttft * 1e9)
        assert row["itl_ns"] == [round(gap * 1e9) for gap in gaps]
        assert row["e2e_ns"] == round(ttft * 1e9) + sum(row["itl_ns"])
        assert (row["prompt_tokens"], row["output_tokens"]) == (isl, osl)
        assert row["sent_at_ns"] == pytest.approx((start - origin_s) * 1e9, abs=300)
        assert begin <= row["sent_at_ns"]
        assert row["sent_at_ns"] + row["e2e_ns"] < end + 300  # sums of floats of this size lose 0.2 us
    assert result.facts.output_tokens == sum(item[4] for item in requests)
    assert result.facts.input_tokens == sum(item[3] for item in requests)
