"""trtllm-bench: ``--report_json`` and the report in its log. Pure.

Read from ``tensorrt_llm/bench/dataclasses/{reporting,statistics}.py`` of TensorRT-LLM 0.13 to 1.2. There is no HTTP:
requests go to the engine in the same process, and a latency counts from there. TTFT is the time of the first token,
TPOT is (latency - TTFT) / (output tokens - 1) of a request, as ours. There is no gap between tokens: what older
versions call inter-token latency is that TPOT. Quantiles are order statistics, without interpolation.
"""

from __future__ import annotations

from enginewatch_db.model import Json
from enginewatch_harness.importers.facts import ImportedRun, Opened, incomplete
from enginewatch_harness.importers.nodes import NS_PER_MS, Node
from enginewatch_harness.importers.trtllm_text import LOG_MARKS, has_report, report_of
from enginewatch_harness.load.spec import CLOSED, LoadSpec

LEVELS = ("p50", "p90", "p95", "p99")
NO_GAPS = "trtllm-bench keeps no gap between tokens; its inter-token latency is a mean per request (our TPOT)"
NOT_STREAMED = "trtllm-bench has the first token's time only with --streaming, or in its latency command"
MEANS_ONLY = "trtllm-bench's report holds only the mean of it: this version prints no quantiles"
RATES = {
    "request_throughput_req_s": "requests_s",
    "system_output_throughput_tok_s": "output_tokens_s",
    "system_total_throughput_tok_s": "total_tokens_s",
    "output_throughput_per_gpu_tok_s": "output_tokens_s_per_gpu",
}
PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16"}
ENGINE_NOTE = "no HTTP: latencies count from the submission to the engine in the same process"


def recognises(opened: Opened) -> bool:
    """Return whether this is trtllm-bench's JSON report, or a log that has or should have the report."""
    if opened.kind == "json":
        found = opened.value if isinstance(opened.value, dict) else {}
        return all(isinstance(found.get(key), dict) for key in ("engine", "performance", "request_info"))
    text = opened.document.text
    return opened.kind == "text" and (has_report(text) or any(mark in text for mark in LOG_MARKS))


def parse(opened: Opened) -> tuple[ImportedRun, ...]:
    """Parse one report.

    Raises:
        UsageError: A value in it cannot be.
        MeasurementError: The log ends before the report, or the report is of no request.
    """
    name = opened.document.name
    if opened.kind == "json":
        return (_run(Node(opened.value, name)),)
    return (_run(Node(report_of(opened.document.text, name), name)),)


def _run(node: Node) -> ImportedRun:
    requests = node.get("request_info", "num_requests").count()
    total_ns = node.get("performance", "total_latency_ms").ns(NS_PER_MS)
    if not requests or not total_ns:
        raise incomplete(node.where, f"the report is of {requests or 0} requests in {total_ns or 0} ns")
    engine, world = node.get("engine"), node.get("world_info")
    gpus = world.get("world_size").count() or _product(world.get("tp_size"), world.get("pp_size"))
    told, absent = _metrics(node, gpus)
    return ImportedRun(
        tool="trtllm-bench",
        tool_version=engine.get("version").text(),
        model=engine.get("model").text() or "unknown",
        server="tensorrt-llm",
        server_version=engine.get("version").text(),
        precision=_precision(engine),
        device=node.get("machine", "name").text(),
        device_count=gpus,
        load=_load(node, requests),
        endpoint=f"in-process, {(engine.get('backend').text() or 'unknown').lower()} backend",
        window_ns=(0, total_ns),
        completed=requests,
        failed=None,
        told=told,
        absent=absent,
        own=_own(node),
        notes=(ENGINE_NOTE, "quantiles are trtllm-bench's: order statistics without interpolation"),
    )


def _product(*sizes: Node) -> int:
    product = 1
    for size in sizes:
        product *= size.count() or 1
    return product


def _precision(engine: Node) -> str | None:
    quantization, dtype = engine.get("quantization").text(), engine.get("dtype").text()
    if quantization is not None:
        return quantization.lower()
    return None if dtype is None else PRECISIONS.get(dtype, dtype)


def _metrics(node: Node, gpus: int) -> tuple[dict[str, float], dict[str, str]]:
    performance, streaming = node.get("performance"), node.get("streaming_metrics")
    told = {}
    for name, metric in RATES.items():
        value = performance.get(name).at_least(0)
        if value is not None:
            told[metric] = value
    if "output_tokens_s" in told:
        if not (node.get("world_info", "world_size").absent and node.get("world_info", "tp_size").absent):
            told.setdefault("output_tokens_s_per_gpu", told["output_tokens_s"] / gpus)
        if "total_tokens_s" in told:
            told["input_tokens_s"] = max(told["total_tokens_s"] - told["output_tokens_s"], 0.0)
    absent = {"itl": NO_GAPS, "zero_gap_pct": NO_GAPS}
    blocks = {"e2e": performance.get("request_latency_percentiles_ms")}
    blocks |= {"ttft": streaming.get("ttft_percentiles"), "tpot": streaming.get("tpot_percentiles")}
    for stem, block in blocks.items():
        values = {f"{stem}_{level}_ms": block.get(level).at_least(0) for level in LEVELS}
        told |= {key: value for key, value in values.items() if value is not None}
        if not any(value is not None for value in values.values()):
            absent[stem] = NOT_STREAMED if stem != "e2e" and not streaming.is_object else MEANS_ONLY
    tpot_ms = told.get("tpot_p50_ms")
    if tpot_ms:
        told["tokens_s_per_user"] = 1000 / tpot_ms
    return told, absent


def _load(node: Node, requests: int) -> LoadSpec:
    info = node.get("request_info")
    in_flight = info.get("avg_num_concurrent_requests").at_least(0)
    latency_ms, total_ms = (
        node.get("performance", name).at_least(0) for name in ("avg_request_latency_ms", "total_latency_ms")
    )
    if in_flight is None and latency_ms and total_ms:
        # Little's law over the whole load: the time that requests were in flight over its length.
        in_flight = requests * latency_ms / total_ms
    return LoadSpec(
        mode=CLOSED,
        concurrency=max(round(in_flight), 1) if in_flight is not None else requests,
        isl=round(info.get("avg_input_length").at_least(0) or 0),
        osl=round(info.get("avg_output_length").at_least(0) or 0),
        requests=requests,
    )


def _own(node: Node) -> Json:
    """Return the blocks of numbers, without paths of the machine that measured."""
    blocks = ("request_info", "world_info", "performance", "streaming_metrics", "decoding_stats", "generation")
    return {name: node.value[name] for name in blocks if isinstance(node.value.get(name), dict)}
