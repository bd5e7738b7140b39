"""Measure a loaded engine: first inference, warm-up, window, and what is read afterwards."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from functools import partial
from statistics import median

import numpy as np
import pyarrow as pa

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_db.tables import conform
from enginewatch_db.validity import Reason
from enginewatch_harness.accuracy.compare import refuse_not_finite
from enginewatch_harness.backends.base import Context, Job, Measurement
from enginewatch_harness.backends.ort_loop import warm_up
from enginewatch_harness.backends.stored_reasons import build_reasons
from enginewatch_harness.backends.tensorrt_loop import SHORT_NS, Timings, burst_size, run_bursts, run_timed
from enginewatch_harness.backends.tensorrt_marks import marked
from enginewatch_harness.backends.tensorrt_module import is_rtx
from enginewatch_harness.backends.tensorrt_options import TensorrtOptions
from enginewatch_harness.backends.tensorrt_query import Query
from enginewatch_harness.backends.tensorrt_runner import Runner
from enginewatch_harness.backends.tensorrt_runtime_cache import RuntimeCache
from enginewatch_harness.parse.trtexec_summary import coefficient_of_variation_pct
from enginewatch_harness.summarise import NS_PER_MS, quantile_metrics

_BURSTS = 200
_UNSTABLE_PCT = 2.5
"""Of GPU time, where ``gpu_time_unstable`` begins: what trtexec warns of."""


def measure_engine(
    runner: Runner,
    job: Job,
    options: TensorrtOptions,
    context: Context,
    *,
    load_time_s: float,
    engine: EngineRecord | None,
    cache: RuntimeCache | None,
) -> Measurement:
    """Time single inferences one after the other.

    Args:
        runner: The loaded engine, its inputs set and nothing run yet.
        job: The case.
        options: Checked options.
        context: Phases and progress.
        load_time_s: What loading took.
        engine: The engine's record.
        cache: Kernels that TensorRT-RTX compiled; ``None``: not kept.

    Raises:
        BackendError: The library's own words; ``output_not_finite``.
    """
    graph, spin, transfers = options.measuring()
    query = Query(runner, spin=spin, transfers=transfers)
    first_ms = _first_inference(query)
    reasons = list(build_reasons(engine))
    if graph:
        query.infer()
        reason = query.use_graph()
        reasons += [reason] if reason else []
    context.enter(Phase.WARMUP)
    infer = _marked_infer(query) if options.nvtx else query.infer
    with marked("warm-up"):
        expected_ns = warm_up(infer, job.warmup_s)
    delay_ns = round(options.inject_delay_ms * 1e6 + expected_ns * options.inject_delay_pct / 100)
    context.enter(Phase.MEASURE)
    with marked("measure"):
        timed = run_timed(infer, query.elapsed, duration_s=job.duration_s, delay_ns=delay_ns, report=context.progress)
    context.enter(Phase.DRAIN)
    gpu_metrics, notes = _gpu_time(query, timed)
    _check_outputs(runner, job)
    cov = coefficient_of_variation_pct(np.frombuffer(timed.gpu, np.int64).astype(np.float64))
    if not gpu_metrics and cov is not None and cov > _UNSTABLE_PCT:
        reasons.append(Reason(code="gpu_time_unstable", detail=f"coefficient of variation {cov:.1f} %"))
    return Measurement(
        tables={"latency_samples": samples(timed, context.t0_ns, with_gpu=not gpu_metrics)},
        window_ns=(timed.start_ns, timed.end_ns),
        metrics=(
            MetricValue(metric="load_time_s", value=load_time_s),
            *_first_metrics(first_ms, cache),
            _context_memory(runner),
            *gpu_metrics,
        ),
        reasons=tuple(reasons),
        realised_precision=engine.realised_precision if engine else None,
        effective_options=_effective(runner, options, query),
        versions={runner.module.__name__: str(runner.module.__version__)},
        command=f"enginewatch run PLAN --case {shlex.quote(job.case_key)}",
        counts={"inferences": float(len(timed.latencies))},
        notes=(*notes, *_capture_notes(runner, query), *_cache_notes(cache)),
    )


def _first_inference(query: Query) -> float:
    began = time.monotonic_ns()
    query.infer()
    return (time.monotonic_ns() - began) / 1e6


def _marked_infer(query: Query) -> partial[None]:
    def infer() -> None:
        with marked("inference"):
            query.infer()

    return partial(infer)


def samples(timed: Timings, t0_ns: int, *, with_gpu: bool) -> pa.Table:
    """Return a table of ``latency_samples``; GPU times too short for events are left out of it."""
    columns = {
        "start_ns": np.frombuffer(timed.starts, np.int64) - t0_ns,
        "latency_ns": np.frombuffer(timed.latencies, np.int64),
    }
    if with_gpu:
        columns["gpu_ns"] = np.frombuffer(timed.gpu, np.int64)
    if timed.h2d is not None and timed.d2h is not None:
        columns["h2d_ns"] = np.frombuffer(timed.h2d, np.int64)
        columns["d2h_ns"] = np.frombuffer(timed.d2h, np.int64)
    return conform("latency_samples", pa.table(columns))


def _gpu_time(query: Query, timed: Timings) -> tuple[Sequence[MetricValue], tuple[str, ...]]:
    """Return GPU time from bursts where single inferences are too short for events, else nothing."""
    typical = median(timed.gpu)
    size = burst_size(typical)
    if size == 1:
        return (), ()
    values = np.array(run_bursts(query.burst, size=size, bursts=_BURSTS)) / NS_PER_MS
    note = (
        f"an inference takes {typical / 1000:.1f} µs on the GPU, under {SHORT_NS / 1000:g} µs: GPU time is from "
        f"{_BURSTS} bursts of {size} after the window, since CUDA events resolve 0.5 µs"
    )
    return quantile_metrics("gpu_time", values, ("p50", "p99")), (note,)


def _check_outputs(runner: Runner, job: Job) -> None:
    outputs = runner.outputs()
    refuse_not_finite(job.case_key, list(outputs), list(outputs.values()))


def _first_metrics(first_ms: float, cache: RuntimeCache | None) -> tuple[MetricValue, MetricValue]:
    cold, warm = "first_inference_ms", "first_inference_cached_ms"
    if cache is not None and cache.hit:
        why = "compiled kernels of an earlier run were used"
        return MetricValue(metric=cold, value=None, absent_reason=why), MetricValue(metric=warm, value=first_ms)
    why = "no compiled kernels of an earlier run were used"
    return MetricValue(metric=cold, value=first_ms), MetricValue(metric=warm, value=None, absent_reason=why)


def _context_memory(runner: Runner) -> MetricValue:
    size = runner.context_memory_mib()
    if size is None:
        return MetricValue(metric="context_memory_mib", value=None, absent_reason="this version does not tell")
    return MetricValue(metric="context_memory_mib", value=size)


def _effective(runner: Runner, options: TensorrtOptions, query: Query) -> Json:
    _, spin, transfers = options.measuring()
    found: Json = {"cuda_graph": query.graphed, "spin_wait": spin, "data_transfers": transfers, "streams": 1}
    if is_rtx(runner.module):
        found["kernel_specialization"] = options.kernel_specialization
    return found


def _capture_notes(runner: Runner, query: Query) -> tuple[str, ...]:
    """Return a note where TensorRT-RTX may not have captured what it was asked to capture."""
    ask = getattr(runner.context, "is_stream_capturable", None)
    if query.graphed is not True and query.graphed and ask is not None and not ask(int(runner.stream)):
        return ("TensorRT-RTX says that this engine cannot be captured: it may have run without CUDA graph",)
    return ()


def _cache_notes(cache: RuntimeCache | None) -> tuple[str, ...]:
    if cache is None:
        return ()
    size = cache.keep()
    used = "used from an earlier run" if cache.hit else "compiled in this run"
    return (f"runtime cache of TensorRT-RTX: {used}, {size} bytes now",)
