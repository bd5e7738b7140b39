"""From Prometheus text to the few numbers that every LLM server has under another name. Pure.

Names by the projects' sources: vLLM ``vllm/v1/metrics`` (recorded from 0.20.0), SGLang
``srt/metrics/collector.py``, TensorRT-LLM ``metrics/collector.py``, LMDeploy ``lmdeploy/metrics/loggers.py``, llama.cpp
``tools/server``, Triton's documentation of metrics (``nv_inference_*`` and its TensorRT-LLM backend's), NIM 1.x's
observability page (vLLM's names without a prefix).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]
Values = list[tuple[Labels, float]]

_NAME = re.compile(r"\s*([A-Za-z_:][A-Za-z0-9_:]*)")
NS_PER_S = 1e9
NS_PER_US = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Where a column of ``server_samples`` comes from.

    Attributes:
        column: The column.
        names: Names of the metric, newest first; the first that is there counts.
        scale: What a value is multiplied with.
        join: How the values of several label sets (engines, models, reasons) become one.
        keep: Which label sets count.
    """

    column: str
    names: tuple[str, ...]
    scale: float = 1.0
    join: Callable[[list[float]], float] = sum
    keep: Callable[[Labels], bool] = lambda labels: True


def _first_rank(labels: Labels) -> bool:
    """SGLang may repeat a scheduler's numbers for each rank, and the total for each priority."""
    ranks = all(labels.get(name, "0") in ("", "0") for name in ("tp_rank", "pp_rank"))
    return ranks and labels.get("priority", "") == ""


def _usual(prefix: str, *, cache: tuple[str, ...], hits: tuple[str, ...], queries: tuple[str, ...]) -> list[Reading]:
    """Return what vLLM and those that took over its names have."""
    return [
        Reading(column="requests_running", names=(f"{prefix}num_requests_running",)),
        Reading(column="requests_waiting", names=(f"{prefix}num_requests_waiting",)),
        Reading(column="kv_cache_used_pct", names=tuple(prefix + name for name in cache), scale=100.0, join=fmean),
        Reading(column="preemptions", names=(f"{prefix}num_preemptions_total",)),
        Reading(column="prefix_query_tokens", names=tuple(prefix + name for name in queries)),
        Reading(column="prefix_hit_tokens", names=tuple(prefix + name for name in hits)),
        Reading(column="queue_time_ns", names=(f"{prefix}request_queue_time_seconds_sum",), scale=NS_PER_S),
        Reading(column="queue_count", names=(f"{prefix}request_queue_time_seconds_count",)),
        Reading(column="prompt_tokens", names=(f"{prefix}prompt_tokens_total",)),
        Reading(column="output_tokens", names=(f"{prefix}generation_tokens_total",)),
        Reading(column="requests_done", names=(f"{prefix}request_success_total",)),
    ]


def _vllm(prefix: str) -> list[Reading]:
    return _usual(
        prefix,
        cache=("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        queries=("prefix_cache_queries_total", "gpu_prefix_cache_queries_total"),
        hits=("prefix_cache_hits_total", "gpu_prefix_cache_hits_total"),
    )


SOURCES: dict[str, list[Reading]] = {
    "vllm": _vllm("vllm:"),
    "sglang": [
        Reading(column=column, names=names, scale=scale, join=join, keep=_first_rank)
        for column, names, scale, join in (
            ("requests_running", ("sglang:num_running_reqs",), 1.0, sum),
            ("requests_waiting", ("sglang:num_queue_reqs",), 1.0, sum),
            ("kv_cache_used_pct", ("sglang:token_usage",), 100.0, fmean),
            ("preemptions", ("sglang:num_retracted_requests_total", "sglang:num_retracted_reqs_total"), 1.0, sum),
            ("prefix_query_tokens", ("sglang:prompt_tokens_total",), 1.0, sum),
            ("prefix_hit_tokens", ("sglang:cached_tokens_total",), 1.0, sum),
            ("queue_time_ns", ("sglang:queue_time_seconds_sum",), NS_PER_S, sum),
            ("queue_count", ("sglang:queue_time_seconds_count",), 1.0, sum),
            ("prompt_tokens", ("sglang:prompt_tokens_total",), 1.0, sum),
            ("output_tokens", ("sglang:generation_tokens_total",), 1.0, sum),
            ("requests_done", ("sglang:num_requests_total",), 1.0, sum),
        )
    ],
    "trtllm": _usual(
        "trtllm_",
        cache=("kv_cache_utilization",),
        queries=("prompt_tokens_total",),
        hits=("prompt_cached_tokens_total",),
    ),
    "lmdeploy": _usual("lmdeploy:", cache=("gpu_cache_usage_perc",), queries=(), hits=()),
    "llamacpp": [
        Reading(column="requests_running", names=("llamacpp:requests_processing",)),
        Reading(column="requests_waiting", names=("llamacpp:requests_deferred",)),
        Reading(column="kv_cache_used_pct", names=("llamacpp:kv_cache_usage_ratio",), scale=100.0),
        Reading(column="prompt_tokens", names=("llamacpp:prompt_tokens_total",)),
        Reading(column="output_tokens", names=("llamacpp:tokens_predicted_total",)),
    ],
    "triton": [
        Reading(
            column="requests_running",
            names=("nv_trt_llm_request_metrics",),
            keep=lambda labels: labels.get("request_type") == "active",
        ),
        Reading(column="requests_waiting", names=("nv_inference_pending_request_count",)),
        Reading(
            column="kv_cache_used_pct",
            names=("nv_trt_llm_kv_cache_block_metrics",),
            scale=100.0,
            join=fmean,
            keep=lambda labels: labels.get("kv_cache_block_type") == "fraction",
        ),
        Reading(column="queue_time_ns", names=("nv_inference_queue_duration_us",), scale=NS_PER_US),
        Reading(column="queue_count", names=("nv_inference_request_success",)),
        Reading(column="requests_done", names=("nv_inference_request_success",)),
    ],
    "nim": _vllm(""),
}
"""Source → how its columns are read; the first source with a gauge in a text is the one that wrote it."""

GAUGES = frozenset({"requests_running", "requests_waiting", "kv_cache_used_pct"})
_WANTED = {name for readings in SOURCES.values() for reading in readings for name in reading.names}


def parse(text: str) -> dict[str, Values]:
    """Return the values of the metrics that ``SOURCES`` names, by metric: labels and value of each sample.

    A line that is not in the format is left out, and so is a value that is not finite: a gauge of NaN says that the
    server does not know.
    """
    found: dict[str, Values] = {}
    for line in text.split("\n"):
        name = _NAME.match(line)
        if name is None or name[1] not in _WANTED:
            continue
        try:
            samples = [sample for family in text_string_to_metric_families(line) for sample in family.samples]
        except (ValueError, KeyError, IndexError):
            continue
        for sample in samples:
            if math.isfinite(sample.value):
                found.setdefault(sample.name, []).append((sample.labels, float(sample.value)))
    return found


def source_of(values: Mapping[str, Values]) -> str | None:
    """Return which server wrote these metrics; ``None`` where none is known by them."""
    for source, readings in SOURCES.items():
        if any(name in values for reading in readings for name in reading.names):
            return source
    return None


def columns(values: Mapping[str, Values], source: str) -> dict[str, float]:
    """Return the columns of ``server_samples`` that these metrics hold."""
    found = {}
    for reading in SOURCES[source]:
        for name in reading.names:
            kept = [value for labels, value in values.get(name, []) if value >= 0 and reading.keep(labels)]
            if kept:
                found[reading.column] = reading.join(kept) * reading.scale
                break
    return found
