"""Whose definition holds: what is computed from single requests, what is the tool's, what is absent and why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from enginewatch_harness.importers import registry
from enginewatch_harness.importers.facts import Document
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.importers.store import read_document

DATA = Path(__file__).parents[1] / "data" / "harness" / "importers"
WHEN = "2026-11-21T00:00:00+00:00"


def content(name):
    """Return a JSON fixture."""
    raw = (DATA / name).read_bytes()
    return json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)


def parse_file(name):
    """Return the runs in a fixture, with the files beside it."""
    return registry.parse(registry.open_document(read_document(DATA / name)))


def parse(value, **beside):
    """Return the runs in JSON, or in a text."""
    text = value if isinstance(value, str) else json.dumps(value)
    found = Document(name="f", text=text, sha256="0" * 64, modified_at=WHEN, beside=beside)
    return registry.parse(registry.open_document(found))


def metrics_of(run):
    """Return the metrics by name."""
    return {item.metric: item for item in judge_import(run).metrics}


def percentile(values, level):
    """Return the tools' percentile: linear interpolation."""
    return float(np.percentile(np.asarray(values, dtype=float), level))


# AIPerf


def aiperf_measured(name):
    """Return the measured records as the tool wrote them."""
    text = gzip.decompress((DATA / name / "profile_export.jsonl.gz").read_bytes()).decode()
    records = [json.loads(line) for line in text.splitlines()]
    return [item for item in records if item["metadata"]["benchmark_phase"] != "warmup"]


def test_aiperf_latencies_of_a_closed_loop_are_the_tools_own():
    (run,) = parse_file("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    told = content("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    rows = [row for row in run.requests.to_pylist() if row["phase"] == "measure"]
    names = {"ttft_ns": "time_to_first_token", "e2e_ns": "request_latency"}
    for ours, theirs in names.items():
        values = [row[ours] / 1e6 for row in rows]
        assert percentile(values, 50) == pytest.approx(told[theirs]["p50"], rel=1e-6)
        assert percentile(values, 99) == pytest.approx(told[theirs]["p99"], rel=1e-6)
    gaps = [gap / 1e6 for row in rows for gap in row["itl_ns"]]
    assert percentile(gaps, 99) == pytest.approx(told["inter_chunk_latency"]["p99"], rel=1e-6)
    assert run.window_ns[1] / 1e9 == pytest.approx(told["benchmark_duration"]["avg"], rel=1e-6)


def test_aiperf_tokens_are_the_servers_with_the_tokenizers_beside_them():
    (run,) = parse_file("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    for row in run.requests.to_pylist():
        assert (row["output_tokens"], row["tokenizer_output_tokens"]) == (8, 16)
        assert row["tpot_ns"] == round((row["e2e_ns"] - row["ttft_ns"]) / 7)
    metrics = metrics_of(run)
    assert metrics["usage_vs_tokenizer_pct"].value == pytest.approx(-50)
    # The tool divides by its tokenizer's 15 tokens: its "inter token latency" is half of ours.
    assert run.own["inter_token_latency"]["p50"] < 0.5 * metrics["tpot_p50_ms"].value
    assert any(reason.code == "token_counts_disagree" for reason in judge_import(run).reasons)


def test_aiperf_in_an_open_loop_counts_from_when_the_request_was_due():
    (run,) = parse_file("aiperf-0.13-poisson/profile_export_aiperf.json.gz")
    assert (run.load.mode, run.load.rate_rps) == ("poisson", 20.0)
    measured = aiperf_measured("aiperf-0.13-poisson")
    for row, record in zip(run.requests.to_pylist(), measured, strict=True):
        meta = record["metadata"]
        late = meta["request_start_ns"] - meta["credit_issued_ns"]
        assert row["sent_at_ns"] - row["intended_at_ns"] == late > 0
        if row["status"] == "ok":
            assert row["ttft_ns"] == late + round(record["metrics"]["time_to_first_token"]["value"] * 1e6)


def test_aiperf_failures_are_rows_and_a_reason():
    (run,) = parse_file("aiperf-0.13-poisson/profile_export_aiperf.json.gz")
    failed = [row for row in run.requests.to_pylist() if row["status"] == "error"]
    assert [row["error_class"] for row in failed] == ["http_503"] * 4
    assert all(row["http_status"] == 503 and row["ttft_ns"] is None for row in failed)
    judged = judge_import(run)
    assert any(reason.code == "requests_failed" and "4 of 20" in reason.detail for reason in judged.reasons)
    assert metrics_of(run)["requests_failed_pct"].value == 20


def test_aiperf_warm_up_is_no_part_of_the_measurement():
    (run,) = parse_file("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    phases = run.requests["phase"].to_pylist()
    assert (phases.count("warmup"), phases.count("measure")) == (2, 24)
    sent = run.requests["sent_at_ns"].to_pylist()
    assert max(at for at, phase in zip(sent, phases, strict=True) if phase == "warmup") < 0
    assert min(at for at, phase in zip(sent, phases, strict=True) if phase == "measure") == 0


def test_aiperf_summary_alone_has_no_tpot_where_the_tokenizer_disagrees_with_the_server():
    (run,) = parse(content("aiperf-0.13-c4/profile_export_aiperf.json.gz"))
    metrics = metrics_of(run)
    assert run.requests is None
    assert metrics["tpot_p50_ms"].absent_reason == (
        "AIPerf divides by its tokenizer's 384 output tokens, the server counted 192"
    )
    assert metrics["output_tokens_s"].value == pytest.approx(192 / run.own["benchmark_duration"]["avg"])
    assert metrics["ttft_p50_ms"].source == "aiperf"
    assert metrics["ttft_p999_ms"].value is None


def test_aiperf_summary_without_chunks_has_no_itl():
    value = content("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    del value["inter_chunk_latency"]
    (run,) = parse(value)
    assert "one mean per request" in metrics_of(run)["itl_p50_ms"].absent_reason
    assert "itl_p50_ms" not in run.told


def test_aiperf_that_divides_by_other_tokens_gives_no_tpot():
    value = content("aiperf-0.13-c4/profile_export_aiperf.json.gz")
    value["input_config"]["endpoint"]["per_chunk_usage"] = True
    value["total_osl"]["avg"] = value["total_usage_completion_tokens"]["avg"]
    (run,) = parse(value)
    assert "after the first chunk" in metrics_of(run)["tpot_p50_ms"].absent_reason


@pytest.mark.parametrize("change", [{"was_cancelled": True}, {"is_complete": False, "incomplete_reason": "stalled"}])
def test_aiperf_that_was_stopped_is_refused(change):
    from enginewatch_db.errors import MeasurementError

    value = content("aiperf-0.13-c4/profile_export_aiperf.json.gz") | change
    with pytest.raises(MeasurementError, match=r"cancelled|incomplete: stalled"):
        parse(value)


# genai-perf


def test_genai_perf_latencies_come_from_the_reads_that_hold_content():
    (run,) = parse_file("genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz")
    raw = content("genai-perf-0.0.16-c3/profile_export.json.gz")["experiments"][0]["requests"]
    told = content("genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz")
    rows = run.requests.to_pylist()
    # The first response has the role alone: it is no token.
    for row, request in zip(rows, sorted(raw, key=lambda item: item["timestamp"]), strict=True):
        assert row["ttft_ns"] == request["response_timestamps"][1] - request["timestamp"]
        assert row["content_events"] == 6
    assert percentile([row["ttft_ns"] / 1e6 for row in rows], 50) == pytest.approx(told["time_to_first_token"]["p50"])
    assert percentile([row["e2e_ns"] / 1e6 for row in rows], 99) == pytest.approx(told["request_latency"]["p99"])


def test_genai_perf_has_gaps_of_its_own_only_in_the_raw_file():
    summary = content("genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz")
    (whole,) = parse_file("genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz")
    (alone,) = parse(summary)
    assert metrics_of(whole)["itl_p50_ms"].value == pytest.approx(5.5, abs=0.5)
    assert "one mean per request" in metrics_of(alone)["itl_p50_ms"].absent_reason
    assert metrics_of(alone)["tpot_p50_ms"].value == summary["inter_token_latency"]["p50"]


def test_genai_perf_without_usage_has_the_tokenizers_rates_or_none():
    (whole,) = parse_file("genai-perf-0.0.16-c3/profile_export_genai_perf.json.gz")
    found = metrics_of(whole)["output_tokens_s"]
    assert (found.value, found.source) == (pytest.approx(687.044, abs=0.001), "genai-perf")
    (raw,) = parse(content("genai-perf-0.0.16-c3/profile_export.json.gz"))
    assert "the server sent no usage" in metrics_of(raw)["output_tokens_s"].absent_reason
    assert metrics_of(raw)["ttft_p50_ms"].value == metrics_of(whole)["ttft_p50_ms"].value


def test_genai_perf_with_usage_counts_the_servers_tokens():
    value = content("genai-perf-0.0.16-c3/profile_export.json.gz")
    for request in value["experiments"][0]["requests"]:
        request["response_timestamps"].append(request["response_timestamps"][-1] + 1_000_000)
        usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}
        request["response_outputs"].append({"response": f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n"})
    (run,) = parse(value)
    rows = run.requests.to_pylist()
    assert {(row["prompt_tokens"], row["output_tokens"], row["content_events"]) for row in rows} == {(9, 12, 6)}
    assert rows[0]["tpot_ns"] == round((rows[0]["e2e_ns"] - rows[0]["ttft_ns"]) / 11)


# GuideLLM


def test_guidellm_latencies_are_the_tools_own_and_its_itl_is_our_tpot():
    name = "guidellm-0.8-concurrent.json.gz"
    for run, told in zip(parse_file(name), content(name)["benchmarks"], strict=True):
        rows = {round(row["sent_at_ns"], -3): row for row in run.requests.to_pylist()}
        assert len(rows) == 12
        theirs = sorted(item["inter_token_latency_ms"] for item in told["requests"]["successful"])
        assert sorted(row["tpot_ns"] / 1e6 for row in rows.values()) == pytest.approx(theirs, abs=0.001)
        firsts = sorted(item["time_to_first_token_ms"] for item in told["requests"]["successful"])
        assert sorted(row["ttft_ns"] / 1e6 for row in rows.values()) == pytest.approx(firsts, abs=0.001)
        metrics = metrics_of(run)
        assert "first and the last token's time only" in metrics["itl_p50_ms"].absent_reason
        # What the tool calls time per output token includes the first token: it is nowhere in our metrics.
        assert metrics["tpot_p50_ms"].value < 0.8 * run.own["time_per_output_token_ms"]["p50"]


def test_guidellm_in_an_open_loop_counts_from_the_targeted_start():
    (run,) = parse_file("guidellm-0.8-poisson.json.gz")
    rows = [row for row in run.requests.to_pylist() if row["status"] == "ok"]
    theirs = content("guidellm-0.8-poisson.json.gz")["benchmarks"][0]["requests"]["successful"]
    late = sorted(item["request_dispatch_delay"] * 1e9 for item in theirs)
    assert sorted(row["sent_at_ns"] - row["intended_at_ns"] for row in rows) == pytest.approx(late, abs=2000)
    assert run.own["time_to_first_token_ms"]["p50"] < metrics_of(run)["ttft_p50_ms"].value


def test_guidellm_requests_that_the_end_cut_off_neither_failed_nor_count():
    (run,) = parse_file("guidellm-0.8-poisson.json.gz")
    rows = run.requests.to_pylist()
    assert [row["error_class"] for row in rows if row["phase"] == "drain"] == ["cancelled"] * 2
    assert {row["error_class"] for row in rows if row["phase"] == "measure"} == {None, "http_503"}
    assert metrics_of(run)["requests_failed_pct"].value == pytest.approx(20)


def test_guidellm_with_a_sample_of_the_requests_gives_the_tools_quantiles():
    value = content("guidellm-0.8-concurrent.json.gz")
    for benchmark in value["benchmarks"]:
        benchmark["requests"]["successful"] = benchmark["requests"]["successful"][:5]
    run = parse(value)[0]
    metrics = metrics_of(run)
    assert run.requests is None
    assert metrics["ttft_p50_ms"].value == run.own["time_to_first_token_ms"]["p50"]
    assert metrics["tpot_p50_ms"].value == run.own["inter_token_latency_ms"]["p50"]
    assert "not with the last token" in metrics["e2e_p50_ms"].absent_reason
    assert metrics["output_tokens_s"].value is None


def test_guidellm_without_streaming_has_an_e2e_and_no_first_token():
    value = content("guidellm-0.8-concurrent.json.gz")
    for item in value["benchmarks"][0]["requests"]["successful"]:
        for name in ("first_token_iteration", "first_output_token_iteration", "last_token_iteration"):
            item["info"]["timings"][name] = None
        item["info"]["timings"]["token_iterations"] = 0
    run = parse(value)[0]
    theirs = sorted(item["request_latency"] * 1e9 for item in value["benchmarks"][0]["requests"]["successful"])
    assert sorted(run.requests["e2e_ns"].to_pylist()) == pytest.approx(theirs, abs=2000)
    assert metrics_of(run)["ttft_p50_ms"].value is None
    assert metrics_of(run)["e2e_p50_ms"].value is not None


def test_an_older_guidellm_without_streaming_has_an_e2e_too():
    value = content("guidellm-0.3-concurrent.json.gz")
    requests = value["benchmarks"][0]["requests"]["successful"]
    for item in requests:
        item["first_token_time"] = item["last_token_time"] = None
    run = parse(value)[0]
    theirs = sorted(item["request_latency"] * 1e9 for item in requests)
    assert sorted(run.requests["e2e_ns"].to_pylist()) == pytest.approx(theirs, abs=2000)
    assert metrics_of(run)["ttft_p50_ms"].value is None


def test_guidellms_zeros_for_no_value_are_no_latencies():
    value = content("guidellm-0.8-concurrent.json.gz")
    for benchmark in value["benchmarks"]:
        benchmark["requests"]["successful"] = benchmark["requests"]["successful"][:5]
        nothing = {"count": 0, "percentiles": {"p50": 0.0, "p90": 0.0, "p95": 0.0, "p99": 0.0}}
        benchmark["metrics"]["time_to_first_token_ms"]["successful"] = nothing
    assert metrics_of(parse(value)[0])["ttft_p50_ms"].value is None


# vLLM and its relatives


def test_vllm_without_its_single_requests_gives_the_tools_quantiles():
    (run,) = parse_file("vllm-0.20-c16-summary.json.gz")
    value = content("vllm-0.20-c16-summary.json.gz")
    metrics = metrics_of(run)
    for ours, theirs in {"ttft": "ttft", "itl": "itl", "tpot": "tpot", "e2e": "e2el"}.items():
        assert metrics[f"{ours}_p50_ms"].value == value[f"median_{theirs}_ms"]
        assert metrics[f"{ours}_p99_ms"].value == value[f"p99_{theirs}_ms"]
    assert metrics["output_tokens_s"].value == value["output_throughput"]


def test_vllm_before_it_wrote_start_times_has_latencies_without_a_time_line():
    (old,) = parse_file("vllm-older-c1-no-starts.json.gz")
    (new,) = parse_file("vllm-0.20-c1.json.gz")
    assert old.requests["sent_at_ns"].null_count == 8
    for metric in ("ttft_p50_ms", "itl_p99_ms", "tpot_p50_ms", "e2e_p50_ms"):
        assert metrics_of(old)[metric].value == metrics_of(new)[metric].value
    assert any("no start times" in note for note in old.notes)


def test_vllm_with_failures_says_how_many():
    value = content("vllm-0.20-c16-summary.json.gz") | {"completed": 60, "failed": 4}
    (run,) = parse(value)
    assert any(reason.code == "requests_failed" and "4 of 64" in reason.detail for reason in judge_import(run).reasons)


def details(**changes):
    """Return a result of two requests with details and no start times."""
    base = {"completed": 2, "duration": 1.0, "request_throughput": 2.0, "output_throughput": 6.0, "num_prompts": 2}
    base |= {"total_input_tokens": 16, "total_output_tokens": 6, "model_id": "m", "backend": "openai-chat"}
    base |= {"ttfts": [0.005, 0.006], "itls": [[0.2, 0.01, 0.02], [0.3, 0.01, 0.03]], "errors": ["", ""]}
    base |= {"input_lens": [8, 8], "output_lens": [3, 3], "request_rate": "inf", "max_concurrency": 2}
    return base | changes


def test_tensorrt_llms_client_counts_the_role_event_of_a_chat_as_a_token():
    fork = {"user_throughput": 3.0, "median_ttft_ms": 5.5, "median_tpot_ms": 100.0, "median_itl_ms": 15.0}
    (run,) = parse(details(median_e2el_ms=230.0, **fork))
    metrics = metrics_of(run)
    assert (run.tool, run.server) == ("trtllm-serve", "tensorrt-llm")
    assert "role event" in metrics["ttft_p50_ms"].absent_reason
    assert "role event" in metrics["tpot_p50_ms"].absent_reason
    # The gap that begins at the role event is the true TTFT's; the others are gaps between tokens.
    assert run.requests["itl_ns"].to_pylist() == [[10_000_000, 20_000_000], [10_000_000, 30_000_000]]
    assert run.requests["e2e_ns"].to_pylist() == [235_000_000, 346_000_000]
    (summary,) = parse({k: v for k, v in details(median_e2el_ms=230.0, **fork).items() if k not in ("ttfts", "itls")})
    assert metrics_of(summary)["e2e_p50_ms"].value == 230.0
    assert "role event" in metrics_of(summary)["itl_p50_ms"].absent_reason
    (completions,) = parse(details(**fork, backend="openai"))
    assert metrics_of(completions)["ttft_p50_ms"].value is not None


def test_sglangs_latency_ends_with_the_usage_event():
    sglang = {"server_info": {"version": "0.5.23", "model_path": "acme/m"}, "backend": "sglang-oai-chat"}
    sglang |= {"median_e2e_latency_ms": 400.0, "median_tpot_ms": 150.0, "median_ttft_ms": 5.5, "model_id": None}
    (run,) = parse(details(**sglang))
    assert (run.tool, run.server, run.server_version, run.model) == ("sglang", "sglang", "0.5.23", "acme/m")
    assert run.requests["e2e_ns"].to_pylist() == [235_000_000, 346_000_000]
    assert run.requests["tpot_ns"].to_pylist() == [115_000_000, 170_000_000]
    (summary,) = parse({k: v for k, v in details(**sglang).items() if k not in ("ttfts", "itls")})
    metrics = metrics_of(summary)
    assert metrics["ttft_p50_ms"].value == 5.5
    assert "usage event" in metrics["e2e_p50_ms"].absent_reason
    assert "usage event" in metrics["tpot_p50_ms"].absent_reason


def test_results_that_were_appended_are_runs_of_their_own():
    value = content("vllm-0.20-c16-summary.json.gz")
    runs = parse("\n".join([json.dumps(value), json.dumps(value | {"max_concurrency": 32}), ""]))
    assert [(run.place, run.load.concurrency) for run in runs] == [("line 1", 16), ("line 2", 32)]


# trtllm-bench

SAME = ("trtllm-1.2-streaming.log", "trtllm-0.19-streaming.log")


@pytest.mark.parametrize("name", SAME)
def test_trtllm_text_says_what_the_json_report_says(name):
    (text,), (report,) = parse_file(name), parse_file("trtllm-1.2-report.json")
    assert text.told == pytest.approx(report.told, rel=1e-4)
    assert text.absent == report.absent
    assert (text.load, text.device_count, text.precision) == (report.load, report.device_count, report.precision)


def test_trtllm_values_stand_under_our_names_only_where_the_definition_is_ours():
    (run,) = parse_file("trtllm-1.2-report.json")
    value = content("trtllm-1.2-report.json")
    metrics = metrics_of(run)
    assert metrics["ttft_p50_ms"].value == value["streaming_metrics"]["ttft_percentiles"]["p50"]
    assert metrics["tpot_p99_ms"].value == value["streaming_metrics"]["tpot_percentiles"]["p99"]
    assert metrics["output_tokens_s_per_gpu"].value == value["performance"]["output_throughput_per_gpu_tok_s"]
    assert "mean per request" in metrics["itl_p50_ms"].absent_reason
    assert run.own["streaming_metrics"]["gen_tps_percentiles"] == value["streaming_metrics"]["gen_tps_percentiles"]
    assert "engine_dir" not in json.dumps(run.own)
    assert (run.device, run.tool_version) == ("NVIDIA H200", "1.2.0")


def test_trtllm_without_streaming_has_no_first_token():
    metrics = metrics_of(parse_file("trtllm-0.21-throughput.log")[0])
    assert "--streaming" in metrics["ttft_p50_ms"].absent_reason
    assert metrics["e2e_p50_ms"].value is not None


@pytest.mark.parametrize("name", ["trtllm-0.16-throughput.log", "trtllm-0.16-latency.log"])
def test_trtllm_of_old_calls_output_tokens_total_tokens(name):
    metrics = metrics_of(parse_file(name)[0])
    report = metrics_of(parse_file("trtllm-1.2-report.json")[0])
    assert metrics["output_tokens_s"].value == pytest.approx(report["output_tokens_s"].value, rel=1e-6)
    assert metrics["total_tokens_s"].value is None
    # Its "P90" is the median, of the generation phase alone.
    assert metrics["e2e_p90_ms"].value is None


def test_trtllm_takes_the_last_report_of_a_log():
    text = (DATA / "trtllm-0.21-throughput.log").read_text()
    first = text.replace("Number of requests:             40", "Number of requests:             2")
    (run,) = parse(first + text)
    assert run.completed == 40


def test_every_imported_run_is_marked_with_the_tool():
    for name in ("trtllm-1.2-report.json", "vllm-0.20-c1.json.gz", "guidellm-0.3-concurrent.json.gz"):
        for run in parse_file(name):
            first = judge_import(run).reasons[0]
            assert first.code == "imported"
            assert first.detail.startswith(run.tool)
