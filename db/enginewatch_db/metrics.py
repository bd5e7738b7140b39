"""The metrics, declared as data: key, unit, direction, what it means. Absent values are ``None`` with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way is better."""

    LOWER = "lower"
    HIGHER = "higher"
    INFO = "info"


class MetricKind(StrEnum):
    """What a metric is computed from."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    LLM = "llm"
    TELEMETRY = "telemetry"
    SERVER = "server"
    BUILD = "build"
    ACCURACY = "accuracy"
    CONTROL = "control"
    DIAGNOSTIC = "diagnostic"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDef:
    """What one metric is.

    Attributes:
        key: Name with its unit as suffix; the key in every table and report.
        unit: The unit as printed.
        direction: Which way is better.
        kind: What it is computed from.
        gated: Whether the gate judges it by default.
        description: One sentence for the documentation and the dashboard.
    """

    key: str
    unit: str
    direction: Direction
    kind: MetricKind
    description: str
    gated: bool = False


def _quantiles(
    stem: str, kind: MetricKind, what: str, levels: tuple[str, ...], gated: tuple[str, ...] = ()
) -> list[MetricDef]:
    words = {"p50": "median", "p90": "90th percentile", "p95": "95th percentile", "p99": "99th percentile"}
    words["p999"] = "99.9th percentile"
    return [
        MetricDef(
            key=f"{stem}_{level}_ms",
            unit="ms",
            direction=Direction.LOWER,
            kind=kind,
            description=f"{words[level].capitalize()} of {what}.",
            gated=level in gated,
        )
        for level in levels
    ]


def _one(
    key: str,
    unit: str,
    direction: Direction,
    kind: MetricKind,
    description: str,
    *,
    gated: bool = False,
) -> MetricDef:
    return MetricDef(key=key, unit=unit, direction=direction, kind=kind, description=description, gated=gated)


_L, _H, _I = Direction.LOWER, Direction.HIGHER, Direction.INFO
_ALL = ("p50", "p90", "p95", "p99", "p999")
_DEFS: list[MetricDef] = [
    *_quantiles("latency", MetricKind.LATENCY, "the latency of one inference", _ALL, ("p50", "p99")),
    _one("latency_mean_ms", "ms", _L, MetricKind.LATENCY, "Mean latency of one inference."),
    _one("latency_min_ms", "ms", _L, MetricKind.LATENCY, "Smallest latency of one inference."),
    _one("latency_max_ms", "ms", _L, MetricKind.LATENCY, "Largest latency of one inference."),
    _one("latency_cov_pct", "%", _I, MetricKind.LATENCY, "Standard deviation of latency over its mean."),
    _one(
        "latency_tail_log_ratio",
        "1",
        _L,
        MetricKind.LATENCY,
        "log(mean of the slowest 2 %) - log(median): the tail freed of run-level noise.",
    ),
    *_quantiles("gpu_time", MetricKind.LATENCY, "GPU compute time of one inference", ("p50", "p99")),
    _one(
        "throughput_qps",
        "1/s",
        _H,
        MetricKind.THROUGHPUT,
        "Inferences per second over the measuring phase.",
        gated=True,
    ),
    _one("throughput_items_s", "items/s", _H, MetricKind.THROUGHPUT, "Inferences per second times the batch."),
    *_quantiles("ttft", MetricKind.LLM, "time to the first content-bearing chunk", _ALL, ("p50", "p99")),
    *_quantiles("itl", MetricKind.LLM, "the gap between consecutive tokens, pooled", _ALL, ("p50", "p99")),
    *_quantiles("tpot", MetricKind.LLM, "(E2E - TTFT) / (output tokens - 1) of a request", _ALL),
    *_quantiles("e2e", MetricKind.LLM, "start to the last content of a request", _ALL),
    *_quantiles("ttfo", MetricKind.LLM, "time to the first content that is not reasoning", ("p50", "p99")),
    _one("output_tokens_s", "tokens/s", _H, MetricKind.LLM, "Output tokens per second.", gated=True),
    _one("input_tokens_s", "tokens/s", _H, MetricKind.LLM, "Prompt tokens per second."),
    _one("total_tokens_s", "tokens/s", _H, MetricKind.LLM, "Prompt and output tokens per second."),
    _one("tokens_s_per_user", "tokens/s", _H, MetricKind.LLM, "1 / median TPOT: interactivity."),
    _one("requests_s", "1/s", _H, MetricKind.LLM, "Completed requests per second."),
    _one("output_tokens_s_per_gpu", "tokens/s", _H, MetricKind.LLM, "Output tokens per second over the GPUs."),
    _one("goodput_requests_s", "1/s", _H, MetricKind.LLM, "Requests per second that met every SLO; a failure misses."),
    _one("goodput_pct", "%", _H, MetricKind.LLM, "Share of requests that met every SLO; a failure misses."),
    _one("requests_in_flight", "1", _I, MetricKind.LLM, "Mean number of requests in flight."),
    _one(
        "little_law_ratio",
        "1",
        _I,
        MetricKind.LLM,
        "Requests in flight over arrival rate times time in the system: 1 in steady state (Little's law).",
    ),
    _one("load_drift_pct", "%", _I, MetricKind.LLM, "Change of E2E over the measuring phase, by Theil-Sen's slope."),
    _one(
        "usage_vs_tokenizer_pct",
        "%",
        _I,
        MetricKind.LLM,
        "Output tokens by the server's usage over those by the tokenizer, less 1.",
    ),
    _one("requests_failed_pct", "%", _L, MetricKind.LLM, "Share of requests that did not complete."),
    _one("send_lateness_p99_ms", "ms", _I, MetricKind.LLM, "Send start minus intended send time, p99."),
    _one("loop_lateness_p99_ms", "ms", _I, MetricKind.LLM, "Lateness of the client's event loop, p99."),
    _one("client_cpu_pct", "%", _I, MetricKind.LLM, "CPU of the load generator's busiest process, of one core."),
    _one("client_processes", "1", _I, MetricKind.LLM, "Processes of the load generator."),
    _one("zero_gap_pct", "%", _I, MetricKind.LLM, "Token gaps of zero: several events came in one read."),
    _one("server_running_mean", "1", _I, MetricKind.SERVER, "Mean requests that the server says it runs."),
    _one("server_waiting_mean", "1", _I, MetricKind.SERVER, "Mean requests that wait in the server's queue."),
    _one("server_waiting_max", "1", _I, MetricKind.SERVER, "Most requests that waited in the server's queue."),
    _one("server_kv_cache_max_pct", "%", _I, MetricKind.SERVER, "Largest share of the KV cache in use."),
    _one("server_preemptions", "1", _I, MetricKind.SERVER, "Requests that the server put back to make room."),
    _one("server_prefix_hit_pct", "%", _I, MetricKind.SERVER, "Prompt tokens answered from the prefix cache."),
    _one("server_queue_mean_ms", "ms", _I, MetricKind.SERVER, "Mean time in the server's queue."),
    _one("build_time_s", "s", _L, MetricKind.BUILD, "Time to build the engine; absent when it was cached."),
    _one(
        "compile_time_s",
        "s",
        _L,
        MetricKind.BUILD,
        "Time of a just-in-time compiler up to the first steady inference; absent when its cache had the code.",
    ),
    _one("engine_size_mib", "MiB", _L, MetricKind.BUILD, "Size of the engine file."),
    _one("load_time_s", "s", _L, MetricKind.BUILD, "Time to load the engine or to get the server ready."),
    _one(
        "first_inference_ms",
        "ms",
        _L,
        MetricKind.BUILD,
        "First inference after loading, kernels compiled or set up in it.",
    ),
    _one(
        "first_inference_cached_ms",
        "ms",
        _L,
        MetricKind.BUILD,
        "The same where compiled kernels of an earlier run were at hand.",
    ),
    _one("context_memory_mib", "MiB", _L, MetricKind.BUILD, "GPU memory of one execution context, without weights."),
    _one("output_rel_l2", "1", _L, MetricKind.ACCURACY, "|output - fp32 output| / |fp32 output| of the worst output."),
    _one(
        "output_max_abs", "1", _L, MetricKind.ACCURACY, "Largest difference from the fp32 output, of the worst output."
    ),
    _one(
        "output_cosine",
        "1",
        _H,
        MetricKind.ACCURACY,
        "Cosine between the output and the fp32 output, of the worst output.",
    ),
    _one(
        "output_top1_agreement_pct",
        "%",
        _H,
        MetricKind.ACCURACY,
        "Share of rows whose largest value is at the same place as in the fp32 output, of the worst output.",
    ),
    _one("enqueue_p50_ms", "ms", _I, MetricKind.DIAGNOSTIC, "Median time of the host to enqueue one inference."),
    _one("compile_graphs", "1", _I, MetricKind.DIAGNOSTIC, "Parts of the model that a compiler compiled as one."),
    _one(
        "compile_graph_breaks",
        "1",
        _I,
        MetricKind.DIAGNOSTIC,
        "Places where a compiler gave the model back to eager mode.",
    ),
    _one(
        "profile_gpu_idle_pct",
        "%",
        _I,
        MetricKind.DIAGNOSTIC,
        "Time between an inference's first and last work in which nothing ran on the GPU, under a profiler.",
    ),
    _one(
        "profile_kernels_per_inference",
        "1",
        _I,
        MetricKind.DIAGNOSTIC,
        "Kernels that one inference launches, as a profiler counted them.",
    ),
    _one(
        "profile_launch_api_p50_us",
        "µs",
        _I,
        MetricKind.DIAGNOSTIC,
        "Median time of the host in a call that launches a kernel or a CUDA graph, under a profiler.",
    ),
    _one(
        "profile_launch_latency_p50_us",
        "µs",
        _I,
        MetricKind.DIAGNOSTIC,
        "Median time from the start of such a call to the start of its first kernel, waiting included.",
    ),
    _one(
        "profile_memcpy_overlap_pct",
        "%",
        _I,
        MetricKind.DIAGNOSTIC,
        "Share of the time of copies in which a kernel ran too, under a profiler.",
    ),
    _one("host_sentinel_ms", "ms", _I, MetricKind.CONTROL, "A fixed piece of CPU work: the host's own speed."),
    _one("cpu_util_mean_pct", "%", _I, MetricKind.TELEMETRY, "Mean CPU utilisation over all cores."),
    _one("cpu_util_max_core_pct", "%", _I, MetricKind.TELEMETRY, "Mean utilisation of the busiest core."),
    _one("cpu_freq_mean_mhz", "MHz", _I, MetricKind.TELEMETRY, "Mean CPU frequency."),
    _one("host_mem_used_max_mib", "MiB", _I, MetricKind.TELEMETRY, "Largest host memory in use."),
    _one("sm_active_mean_pct", "%", _I, MetricKind.TELEMETRY, "Cycles with a warp resident on an SM (GPM)."),
    _one("sm_occupancy_mean_pct", "%", _I, MetricKind.TELEMETRY, "Resident warps over the maximum (GPM)."),
    _one("tensor_active_mean_pct", "%", _I, MetricKind.TELEMETRY, "Cycles of the tensor pipes in use (GPM)."),
    _one("dram_bw_mean_pct_of_peak", "%", _I, MetricKind.TELEMETRY, "DRAM bandwidth over its peak (GPM)."),
    _one(
        "gpu_busy_time_mean_pct",
        "%",
        _I,
        MetricKind.TELEMETRY,
        "Time with any kernel running (NVML utilisation rate): not SM utilisation.",
    ),
    _one(
        "mem_ctrl_busy_time_mean_pct",
        "%",
        _I,
        MetricKind.TELEMETRY,
        "Time with any memory access (NVML utilisation rate): not a bandwidth.",
    ),
    _one("power_mean_w", "W", _I, MetricKind.TELEMETRY, "Mean board power."),
    _one("power_max_w", "W", _I, MetricKind.TELEMETRY, "Largest board power seen."),
    _one("energy_j", "J", _I, MetricKind.TELEMETRY, "Energy of the measuring phase, from the counter."),
    _one("energy_per_token_mj", "mJ", _L, MetricKind.TELEMETRY, "Energy over output tokens."),
    _one("sm_clock_mean_mhz", "MHz", _I, MetricKind.TELEMETRY, "Mean SM clock."),
    _one("sm_clock_min_mhz", "MHz", _I, MetricKind.TELEMETRY, "Smallest SM clock seen."),
    _one("temp_max_c", "°C", _I, MetricKind.TELEMETRY, "Highest GPU temperature."),
    _one("gpu_mem_used_max_mib", "MiB", _I, MetricKind.TELEMETRY, "Largest GPU memory in use."),
    _one("power_capped_time_pct", "%", _I, MetricKind.TELEMETRY, "Time that the power cap held the clock down."),
    _one("thermal_throttle_time_pct", "%", _I, MetricKind.TELEMETRY, "Time that heat held the clock down."),
]

METRICS: dict[str, MetricDef] = {definition.key: definition for definition in _DEFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """One metric of one run.

    Attributes:
        metric: A key of ``METRICS``.
        value: In the metric's unit; ``None`` when absent.
        ci_low: Lower end of the interval from this run's own samples; ``None`` where there is none.
        ci_high: Upper end of the same.
        n: Samples behind the value; ``None`` where the notion does not apply.
        absent_reason: Why ``value`` is ``None``.
        source: Provenance for telemetry (``gpm``, ``nvml_util``, ``host``, ...); ``None`` elsewhere.
    """

    metric: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    absent_reason: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}; declare it in enginewatch_db.metrics")
        if (self.value is None) != (self.absent_reason is not None):
            raise ValueError(f"{self.metric}: give either a value or the reason for its absence")
