"""The report that trtllm-bench prints, in the words of every version, as the keys of its ``--report_json``. Pure.

Three label sets (TensorRT-LLM 0.13 to 0.17, 0.18 to 0.20, 0.21 on) and the old ``latency`` command's own. In the
oldest two, ``Token Throughput`` and, of the latency command, ``Total Token Throughput`` are *output* tokens, and what
the latency command prints as P90 is the median: the source divides, and indexes, so.
"""

from __future__ import annotations

import re

from enginewatch_db.model import Json
from enginewatch_harness.importers.facts import incomplete

LOG_MARKS = ("[TRT-LLM]", "trtllm-bench", "[TensorRT-LLM]")
_HEADING = re.compile(r"^=+ (?P<name>[A-Za-z+() _-]+?)\s*$")
_REPORT = re.compile(
    r"^= (PERFORMANCE OVERVIEW|GENERAL OVERVIEW|THROUGHPUT OVERVIEW|ENGINE DETAILS|PYTORCH BACKEND"
    r"|REQUEST DETAILS)\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_LINE = re.compile(r"^(?P<label>[^:=\[][^:]*?)\s*:\s+(?P<value>\S.*?)\s*$")
_BLOCK = re.compile(r"^\[(?P<block>TPOT|TTFT|GTPS|Latency)\]\s+(?P<level>\w+)\s*:\s*(?P<value>\S+)\s*$")
_MACHINE = re.compile(r"^(?P<name>[^,]+), memory [\d.]+ GB")

LABELS: dict[str, tuple[str, str]] = {
    "model": ("engine", "model"),
    "tensorrt-llm version": ("engine", "version"),
    "tensorrt llm version": ("engine", "version"),
    "dtype": ("engine", "dtype"),
    "kv cache dtype": ("engine", "kv_cache_dtype"),
    "quantization": ("engine", "quantization"),
    "tp size": ("world_info", "tp_size"),
    "pp size": ("world_info", "pp_size"),
    "ep size": ("world_info", "ep_size"),
    "max runtime batch size": ("world_info", "max_batch_size"),
    "max runtime tokens": ("world_info", "max_num_tokens"),
    "scheduling policy": ("world_info", "scheduling_policy"),
    "number of requests": ("request_info", "num_requests"),
    "number of concurrent requests": ("request_info", "avg_num_concurrent_requests"),
    "average input length (tokens)": ("request_info", "avg_input_length"),
    "average output length (tokens)": ("request_info", "avg_output_length"),
    "request throughput (req/sec)": ("performance", "request_throughput_req_s"),
    "token throughput (tokens/sec)": ("performance", "system_output_throughput_tok_s"),
    "total output throughput (tokens/sec)": ("performance", "system_output_throughput_tok_s"),
    "total token throughput (tokens/sec)": ("performance", "system_total_throughput_tok_s"),
    "total latency (ms)": ("performance", "total_latency_ms"),
    "average request latency (ms)": ("performance", "avg_request_latency_ms"),
    "per user output throughput (tokens/sec/user)": ("performance", "output_throughput_per_user_tok_s"),
    "per user output throughput [w/ ctx] (tps/user)": ("performance", "output_throughput_per_user_tok_s"),
    "per gpu output throughput (tokens/sec/gpu)": ("performance", "output_throughput_per_gpu_tok_s"),
    "per gpu output throughput (tps/gpu)": ("performance", "output_throughput_per_gpu_tok_s"),
    "average time-to-first-token [ttft] (ms)": ("streaming_metrics", "avg_ttft_ms"),
    "average time-to-first-token (ms)": ("streaming_metrics", "avg_ttft_ms"),
    "average time-per-output-token [tpot] (ms)": ("streaming_metrics", "avg_tpot_ms"),
    "average inter-token latency (ms)": ("streaming_metrics", "avg_tpot_ms"),
    "per user output speed (tps/user)": ("streaming_metrics", "token_output_speed_tok_s"),
    "per user output speed [1/tpot] (tokens/sec/user)": ("streaming_metrics", "token_output_speed_tok_s"),
    "generation token throughput (tokens/sec)": ("generation", "per_user_tok_s"),
    "acceptance rate (speculative)": ("generation", "acceptance_rate"),
}
"""Label in small letters, with single blanks → block and key of the JSON report."""

BLOCKS = {
    "TPOT": ("streaming_metrics", "tpot_percentiles"),
    "TTFT": ("streaming_metrics", "ttft_percentiles"),
    "GTPS": ("streaming_metrics", "gen_tps_percentiles"),
    "Latency": ("performance", "request_latency_percentiles_ms"),
}
TEXTS = frozenset({("engine", key) for key in ("model", "version", "dtype", "kv_cache_dtype", "quantization")})
TEXTS |= {("world_info", "scheduling_policy")}
LAST = (
    ("request_info", "num_requests"),
    ("performance", "total_latency_ms"),
    ("performance", "request_throughput_req_s"),
)
"""What a whole report must have; the report is printed at once, so a log without it was cut."""


def has_report(text: str) -> bool:
    """Return whether a text has a heading of the report."""
    return _REPORT.search(text) is not None


def report_of(text: str, name: str) -> Json:
    """Return the last report of a log, as ``--report_json`` would have it.

    Raises:
        MeasurementError: There is none, or it is cut.
    """
    if not has_report(text):
        raise incomplete(
            name,
            "this log of trtllm-bench has no report: the benchmark failed, or the log is cut",
            "read the log's last lines, and measure again",
        )
    found = _last_report(text)
    for block, key in LAST:
        if key not in found.get(block, {}):
            raise incomplete(
                name, f"the report of trtllm-bench is cut: it has no {key}", "give the whole log, or measure again"
            )
    for block, key in BLOCKS.values():
        quantiles = found.get(block, {}).get(key)
        if quantiles is not None and not {"p50", "p99", "average"} <= set(quantiles):
            raise incomplete(
                name, f"the report of trtllm-bench is cut in {key}", "give the whole log, or measure again"
            )
    return found


def _last_report(text: str) -> Json:
    found: Json = {}
    heading = ""
    for raw in text.splitlines():
        line = " ".join(raw.split())
        match = _HEADING.match(line)
        if match:
            heading = match["name"].upper()
            # Warm-up and repeats print reports of their own: the last one counts.
            if heading in ("ENGINE DETAILS", "PYTORCH BACKEND"):
                found = {"engine": {"backend": "trt" if heading == "ENGINE DETAILS" else "pytorch"}}
        elif heading:
            _take(found, heading, line)
    return found


def _take(found: Json, heading: str, line: str) -> None:
    if match := _BLOCK.match(line):
        quantile = _number(match["value"])
        if quantile is not None:
            block, key = BLOCKS[match["block"]]
            found.setdefault(block, {}).setdefault(key, {})[match["level"].lower()] = quantile
        return
    if heading == "MACHINE DETAILS" and (machine := _MACHINE.match(line)):
        found["machine"] = {"name": machine["name"]}
        return
    match = _LINE.match(line)
    if match is None or match["label"].lower() not in LABELS:
        return
    block, key = LABELS[match["label"].lower()]
    if heading == "THROUGHPUT OVERVIEW" and key == "system_total_throughput_tok_s":
        # The old latency command prints output tokens under this label.
        key = "system_output_throughput_tok_s"
    value = match["value"] if (block, key) in TEXTS else _number(match["value"])
    if value is not None:
        found.setdefault(block, {})[key] = value


def _number(text: str) -> float | int | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
