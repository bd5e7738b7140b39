"""Refuses what trtllm-bench 1.2 refuses, and writes what it writes."""

# ruff: noqa: T201 (a tool prints)

import json
import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
say = json.loads(HERE.joinpath("say.json").read_text())
HERE.joinpath("calls.json").write_text(json.dumps(sys.argv[1:]))
VALUED = {
    "--engine_dir",
    "--backend",
    "--max_seq_len",
    "--kv_cache_free_gpu_mem_fraction",
    "--dataset",
    "--num_requests",
    "--warmup",
    "--tp",
    "--pp",
    "--ep",
    "--concurrency",
    "--report_json",
    "--iteration_log",
    "--extra_llm_api_options",
    "--beam_width",
    "--sampler_options",
}
ONLY_THROUGHPUT = {
    "--max_batch_size",
    "--max_num_tokens",
    "--eos_id",
    "--scheduler_policy",
    "--request_json",
    "--output_json",
    "--cluster_size",
}
FLAGS = {"--streaming", "--enable_chunked_context", "--disable_chunked_context"}


def usage(text):
    sys.stderr.write("Usage: trtllm-bench [OPTIONS] COMMAND [ARGS]...\n\nError: " + text + "\n")
    sys.exit(2)


given, rest, known = {}, sys.argv[1:], {"--model", "--model_path", "--workspace", "--log_level", "--revision"}
command, flags = None, set()
while rest:
    word = rest.pop(0)
    if command is None and word in ("throughput", "latency"):
        command = word
        known, flags = (VALUED | ONLY_THROUGHPUT, FLAGS) if word == "throughput" else (VALUED, set())
    elif word in flags:
        given[word] = True
    elif word in known:
        given[word] = rest.pop(0)
    else:
        usage("No such option: " + word)
if command is None or "--model" not in given:
    usage("Missing option '--model' / '-m'.")
if given["--backend"] not in ("pytorch", "tensorrt", "_autodeploy"):
    usage("Invalid value for '--backend'")
for name in ("--dataset", "--engine_dir"):
    if name in given and not Path(given[name]).exists():
        usage(f"Invalid value for '{name}': Path '{given[name]}' does not exist.")
config = json.loads(Path(given["--extra_llm_api_options"]).read_text()) if "--extra_llm_api_options" in given else {}
assert set(config) <= {"enable_iter_perf_stats", "kv_cache_config", "print_iter_log"}, config

print(f"[11/20/2026-22:10:57] [TRT-LLM] [I] Preparing to run {command} benchmark...")
dataset = [json.loads(line) for line in Path(given["--dataset"]).read_text().splitlines()]
dataset = dataset[: int(given["--num_requests"]) or None]
for item in dataset:
    assert {"task_id", "output_tokens"} <= set(item), item
    assert "input_ids" in item or "prompt" in item, item
if say.get("die") is not None:
    sys.stderr.write(say.get("stderr", ""))
    sys.stderr.flush()
    if say["die"] < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -say["die"])
    sys.exit(say["die"])

concurrency, streams = int(given["--concurrency"]), command == "latency" or "--streaming" in given
unit, skew_ns = say.get("unit", 10_000), say.get("skew_ns", 0)  # all times are multiples of a short unit
begin, records = time.perf_counter_ns() - len(dataset) // concurrency * 40 * unit - skew_ns, []
for number, item in enumerate(dataset):
    start = begin + number // concurrency * 40 * unit
    first, end = start + 12 * unit + number % 7 * unit // 10, start + 39 * unit + number % 5 * unit // 10
    osl, isl = item["output_tokens"], len(item.get("input_ids") or item["prompt"].split())
    records.append(
        {
            "id": number,
            "num_input_tokens": isl,
            "error_tokens": 0,
            "start_timestamp": start,
            "first_token_timestamp": first if streams else -1,
            "end_timestamp": end,
            "decode_iteration": osl - 1,
            "num_total_output_tokens": osl,
            "num_generated_tokens": osl - 1,
            "time_to_first_token": first - start if streams else 0.0,
            "end_to_end_latency": end - start,
            "output": "a secret answer",
            "output_tokens": osl,
        }
    )
total = max(r["end_timestamp"] for r in records) - begin
out, isl = (sum(r[key] for r in records) for key in ("num_total_output_tokens", "num_input_tokens"))


def spread(values):
    values = sorted(values)

    def at(share):
        return values[int(len(values) * share)] / 1e6

    return {
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "minimum": values[0] / 1e6,
        "maximum": values[-1] / 1e6,
        "average": sum(values) / len(values) / 1e6,
    }


tp, pp = int(given["--tp"]), int(given["--pp"])
latency = spread(r["end_to_end_latency"] for r in records)
report = {
    "engine": {
        "model": given["--model"],
        "model_path": given.get("--model_path", "None"),
        "engine_dir": given.get("--engine_dir", "None"),
        "version": "1.2.1",
        "backend": "TRT" if given["--backend"] == "tensorrt" else "Pytorch",
        "dtype": "bfloat16",
        "kv_cache_dtype": say.get("kv"),
        "quantization": say.get("quant", "FP8"),
    },
    "machine": {"name": "NVIDIA H200", "memory.total": 139.8, "clocks.mem": 3.201},
    "world_info": {
        "tp_size": tp,
        "pp_size": pp,
        "ep_size": "None",
        "world_size": tp * pp,
        "max_batch_size": int(given.get("--max_batch_size", 1 if command == "latency" else 2048)),
        "max_num_tokens": 8192,
        "scheduling_policy": "GUARANTEED_NO_EVICT",
        "kv_cache_percentage": float(given["--kv_cache_free_gpu_mem_fraction"]),
        "issue_rate": 1.2e16,
    },
    "request_info": {
        "num_requests": len(records),
        "avg_num_concurrent_requests": float(concurrency),
        "avg_input_length": isl / len(records),
        "avg_output_length": out / len(records),
    },
    "performance": {
        "total_latency_ms": total / 1e6,
        "avg_request_latency_ms": latency["average"],
        "request_throughput_req_s": len(records) / total * 1e9,
        "system_output_throughput_tok_s": out / total * 1e9,
        "system_total_throughput_tok_s": (out + isl) / total * 1e9,
        "output_throughput_per_user_tok_s": 1.0,
        "output_throughput_per_gpu_tok_s": out / total * 1e9 / tp / pp,
        "request_latency_percentiles_ms": latency,
    },
    "dataset": {"dataset_path": given["--dataset"], "num_requests": len(records)},
}
if streams:
    ttft = spread(r["time_to_first_token"] for r in records)
    tpot = spread(
        (r["end_timestamp"] - r["first_token_timestamp"]) / max(r["num_generated_tokens"], 1) for r in records
    )
    report["streaming_metrics"] = {
        "token_output_speed_tok_s": 127762.0,
        "avg_ttft_ms": ttft["average"],
        "avg_tpot_ms": tpot["average"],
        "tpot_percentiles": tpot,
        "ttft_percentiles": ttft,
    }
report.update(say.get("report", {}))
if not say.get("silent"):
    Path(given["--report_json"]).write_text(json.dumps(report, indent=4)[: say.get("cut")])
    if "--request_json" in given and not say.get("no_requests"):
        Path(given["--request_json"]).write_text(json.dumps(records[: say.get("keep")]))
if "--iteration_log" in given and (config.get("enable_iter_perf_stats") or given["--backend"] == "tensorrt"):
    wall = datetime.now(UTC)
    lines = []
    for number in range(50):
        stamp = (wall - timedelta(microseconds=total / 1e3 / 50 * (49 - number))).strftime("%m-%d-%Y %H:%M:%S.%f")
        blocks, batch = {"usedNumBlocks": 10 + number, "maxNumBlocks": 100}, {"numScheduledRequests": concurrency}
        lines.append(
            str(
                {
                    "iter": number,
                    "iterLatencyMS": total / 5e7,
                    "timestamp": stamp,
                    "kvCacheStats": blocks,
                    "numActiveRequests": concurrency,
                    "numQueuedRequests": 2,
                    "numCompletedRequests": 1,
                    "inflightBatchingStats": batch,
                    "specDecodingStats": None,
                }
            )
        )
    Path(given["--iteration_log"]).write_text("\n".join(lines) + "\n")
print("[11/20/2026-22:11:02] [TRT-LLM] [I] Benchmark done. Reporting results...")
sys.exit(say.get("after", 0))
