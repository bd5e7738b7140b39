"""A store with everything that the dashboard shows: several sessions, a regression, failures, LLM and GPU runs."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from enginewatch_db import ids
from enginewatch_db.bundle import write
from enginewatch_db.ingest import ingest
from enginewatch_db.judgements import accept, store
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import (
    Comparison,
    Effect,
    EngineRecord,
    Failure,
    Finding,
    FindingKind,
    Identity,
    Phase,
    PhaseMark,
    RunRecord,
    RunStatus,
    Severity,
    Verdict,
)
from enginewatch_db.quantile import estimate
from enginewatch_db.validity import Reason
from enginewatch_db.workspace import Workspace

MS, SECOND = 1_000_000, 1_000_000_000
START = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
CPU, GPU = "AMD EPYC 9654 (16 cores)", "NVIDIA H200"
POWER_LIMIT_W = 700


def session_id(number: int) -> str:
    return f"01930000-0000-7000-8000-{number:012d}"


def _quantiles(stem: str, values: np.ndarray, levels: tuple[str, ...]) -> list[MetricValue]:
    found = []
    for level in levels:
        q = estimate(values, float(f"0.{level[1:]}"))
        found.append(MetricValue(metric=f"{stem}_{level}_ms", value=q.value, ci_low=q.ci_low, ci_high=q.ci_high, n=q.n))
    return found


def _mean(metric: str, value: float, source: str) -> MetricValue:
    return MetricValue(metric=metric, value=float(value), source=source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What one case of the seeded store is like."""

    key: str
    model: str
    device: str = CPU
    latency_ms: float = 5.0
    noise: float = 0.02
    sm: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    power_w: float = 0.0
    streams: int = 0
    layers: int = 0


CASES = (
    Spec(key="encoder/onnxruntime/fp32/b8", model="encoder", latency_ms=5.2, layers=24),
    Spec(key="encoder/onnxruntime/int8/b8", model="encoder", latency_ms=2.1, layers=24),
    Spec(
        key="resnet50/trtexec/fp16/b8", model="resnet50", device=GPU, latency_ms=0.91, sm=37, tensor=10, dram=2.5,
        power_w=290, layers=18,
    ),
    Spec(key="resnet50/trtexec/fp16/b32", model="resnet50", device=GPU, latency_ms=2.3, sm=56, tensor=19, dram=14,
         power_w=464),
    Spec(key="llama-7b/openai/bf16/c1", model="llama-7b", device=GPU, latency_ms=4.1, sm=67, tensor=4, dram=63,
         power_w=420, streams=1),
    Spec(key="llama-7b/openai/bf16/c64", model="llama-7b", device=GPU, latency_ms=11.0, sm=88, tensor=58, dram=41,
         power_w=706, streams=16),
)  # fmt: skip


def _identity(spec: Spec) -> Identity:
    workload, backend, precision, feed = spec.key.split("/")
    return Identity(
        workload=workload,
        model=spec.model,
        model_sha256=None,
        backend=backend,
        precision=precision,
        device=spec.device,
        shapes={} if spec.streams else {"input": [int(feed[1:]), 3, 224, 224]},
        load={"mode": "closed", "isl": 512, "osl": 24, "concurrency": int(feed[1:])} if spec.streams else {},
        options={"duration_ms": 6000, "warmup_ms": 500},
        tool_major="10",
    )


def _host_telemetry(rng: np.random.Generator, ticks: np.ndarray, busy: np.ndarray) -> dict[str, list[object]]:
    cores = np.clip(rng.normal(6, 3, (ticks.size, 8)), 0, 100)
    cores[busy, 2] = np.clip(rng.normal(94, 3, busy.sum()), 0, 100)
    return {
        "t_ns": ticks.tolist(),
        "source": ["host"] * ticks.size,
        "device": ["host"] * ticks.size,
        "cpu_util_pct": cores.mean(axis=1).tolist(),
        "cpu_util_core_pct": cores.tolist(),
        "cpu_freq_mhz": rng.normal(3450, 20, ticks.size).tolist(),
        "host_mem_used_mib": [48_000] * ticks.size,
    }


def _gpu_telemetry(spec: Spec, rng: np.random.Generator, ticks: np.ndarray, busy: np.ndarray) -> dict[str, list]:
    def level(on: float, sd: float) -> np.ndarray:
        return np.clip(np.where(busy, on, 0) + rng.normal(0, sd, ticks.size) * busy, 0, 100)

    # A counter that reads nothing for a second leaves a gap, not a line through it.
    gap = (ticks > 3 * SECOND) & (ticks < 3.9 * SECOND)
    sm = level(spec.sm, 1.2)
    power = np.where(busy, spec.power_w, 118) + rng.normal(0, 3, ticks.size)
    capped = spec.power_w >= POWER_LIMIT_W
    ramp = np.clip((ticks - 1.5 * SECOND) / (1.2 * SECOND), 0, 1)
    clock = 1980 - (380 * ramp * busy if capped else 0) + rng.integers(-1, 2, ticks.size) * 15 * capped
    return {
        "t_ns": ticks.tolist(),
        "source": ["nvml"] * ticks.size,
        "device": ["gpu0"] * ticks.size,
        "sm_active_pct": [None if skip else float(v) for v, skip in zip(sm, gap, strict=True)],
        "sm_occupancy_pct": (sm / 6).tolist(),
        "tensor_active_pct": level(spec.tensor, 0.8).tolist(),
        "dram_bw_pct_of_peak": level(spec.dram, 0.8).tolist(),
        "gpu_busy_time_pct": np.where(busy, np.clip(rng.normal(97, 1.5, ticks.size), 0, 100), 0).tolist(),
        "mem_ctrl_busy_time_pct": level(spec.dram * 1.2, 1).tolist(),
        "power_mw": (np.minimum(power, POWER_LIMIT_W + 4) * 1000).astype(int).tolist(),
        "sm_clock_mhz": clock.astype(int).tolist(),
        "temp_c": (38 + 12 * busy).astype(int).tolist(),
        "gpu_mem_used_mib": [1_400] * ticks.size,
    }


def _telemetry(spec: Spec, rng: np.random.Generator, end_ns: int, busy_from_ns: int) -> pa.Table:
    ticks = np.arange(0, end_ns + 300 * MS, 100 * MS, dtype=np.int64)
    busy = (ticks >= busy_from_ns) & (ticks < end_ns)
    parts = [pa.table(_host_telemetry(rng, ticks, busy))]
    if spec.device == GPU:
        parts.append(pa.table(_gpu_telemetry(spec, rng, ticks, busy)))
    return pa.concat_tables(parts, promote_options="permissive")


def _requests(spec: Spec, rng: np.random.Generator, end_ns: int, scale: float) -> tuple[pa.Table, list[MetricValue]]:
    rows: list[dict[str, object]] = []
    tokens, itl_ms = 24, spec.latency_ms * scale
    for stream in range(spec.streams):
        now = 1_000 * MS + stream * 3 * MS
        while now < end_ns - 400 * MS:
            ttft = int((18 + 2.5 * spec.streams) * MS * float(np.exp(rng.normal(0, 0.12))))
            gaps = (itl_ms * MS * np.exp(rng.normal(0, 0.08, tokens - 1))).astype(np.int64)
            broken = spec.streams > 1 and rng.random() < 0.02
            rows.append(
                {
                    "request_idx": len(rows),
                    "stream": stream,
                    "phase": "warmup" if now < 1_500 * MS else "measure",
                    "status": "error" if broken else "ok",
                    "error_class": "http_503" if broken else None,
                    "sent_at_ns": now,
                    "intended_at_ns": now,
                    "ttft_ns": None if broken else ttft,
                    "e2e_ns": 4 * MS if broken else ttft + int(gaps.sum()),
                    "output_tokens": 0 if broken else tokens,
                    "itl_ns": None if broken else gaps.tolist(),
                }
            )
            now += (4 * MS if broken else ttft + int(gaps.sum())) + 2 * MS
    good = [row for row in rows if row["status"] == "ok" and row["phase"] == "measure"]
    ttft_ms = np.array([row["ttft_ns"] for row in good]) / MS
    itl = np.concatenate([row["itl_ns"] for row in good]) / MS
    window_s = (end_ns - 1_500 * MS) / SECOND
    metrics = [
        *_quantiles("ttft", ttft_ms, ("p50", "p90", "p99")),
        *_quantiles("itl", itl, ("p50", "p99")),
        MetricValue(metric="output_tokens_s", value=len(good) * tokens / window_s, n=len(good)),
        MetricValue(metric="requests_s", value=len(good) / window_s, n=len(good)),
        MetricValue(metric="energy_per_token_mj", value=None, absent_reason="the energy counter was not read"),
    ]
    return pa.Table.from_pylist(rows), metrics


def _samples(spec: Spec, rng: np.random.Generator, scale: float) -> tuple[pa.Table, list[MetricValue], int]:
    n = min(4000, int(4_500 / spec.latency_ms))
    latency = (spec.latency_ms * scale * MS * np.exp(rng.normal(0, spec.noise, n))).astype(np.int64)
    latency[rng.integers(0, n, 3)] *= 2
    starts = np.concatenate([[0], np.cumsum(latency)[:-1]]) + 1_500 * MS
    window = int(starts[-1] + latency[-1] - starts[0])
    metrics = _quantiles("latency", latency / MS, ("p50", "p90", "p99"))
    batch = int(spec.key.rsplit("b", 1)[1])
    metrics += [
        MetricValue(metric="throughput_qps", value=n / window * 1e9, n=n),
        MetricValue(metric="throughput_items_s", value=n * batch / window * 1e9, n=n),
        MetricValue(metric="build_time_s", value=None, absent_reason="the engine came from the cache"),
        MetricValue(metric="engine_size_mib", value=51.2),
    ]
    return pa.table({"start_ns": starts, "latency_ns": latency}), metrics, int(starts[-1] + latency[-1])


def _layers(spec: Spec, rng: np.random.Generator) -> pa.Table:
    share = rng.dirichlet(np.geomspace(8, 0.4, spec.layers))
    total = spec.latency_ms * 1.08 * MS
    kinds = ("Convolution", "MatMul", "Reformat", "Softmax", "LayerNorm")
    return pa.table(
        {
            "layer_idx": pa.array(range(spec.layers), pa.int32()),
            "name": [f"block_{i // 3}/{kinds[i % 5].lower()}_{i} + relu" for i in range(spec.layers)],
            "layer_type": [kinds[i % 5] for i in range(spec.layers)],
            "dtype": ["Half" if spec.device == GPU else "FP32"] * spec.layers,
            "calls": [100] * spec.layers,
            "mean_ns": (share * total).astype(np.int64),
            "time_pct": share * 100,
            "source": ["trtexec" if spec.device == GPU else "onnxruntime"] * spec.layers,
        }
    )


def _gpu_means(spec: Spec) -> list[MetricValue]:
    if spec.device != GPU:
        return [_mean("cpu_util_mean_pct", 17.0, "host"), _mean("cpu_util_max_core_pct", 94.0, "host")]
    capped = spec.power_w >= POWER_LIMIT_W
    return [
        _mean("gpu_busy_time_mean_pct", 97.2, "nvml_util"),
        _mean("sm_active_mean_pct", spec.sm, "gpm"),
        _mean("tensor_active_mean_pct", spec.tensor, "gpm"),
        _mean("dram_bw_mean_pct_of_peak", spec.dram, "gpm"),
        _mean("power_mean_w", min(spec.power_w, 698), "nvml"),
        _mean("sm_clock_mean_mhz", 1640.0 if capped else 1980.0, "nvml"),
        _mean("power_capped_time_pct", 71.0 if capped else 0.0, "nvml_counter"),
    ]


def finished(spec: Spec, *, session: dict, number: int, repeat: int, order: int, scale: float, seed: int):
    """Return a measured run and its tables."""
    rng = np.random.default_rng(seed)
    scale *= float(np.exp(rng.normal(0, 0.006)))
    tables: dict[str, pa.Table] = {}
    if spec.streams:
        end_ns = 6_000 * MS
        tables["llm_requests"], metrics = _requests(spec, rng, end_ns, scale)
    else:
        tables["latency_samples"], metrics, end_ns = _samples(spec, rng, scale)
    if spec.layers:
        tables["layers"] = _layers(spec, rng)
    tables["telemetry"] = _telemetry(spec, rng, end_ns, 1_000 * MS)
    t0 = 7 * SECOND
    marks = ((Phase.LOAD, 0, 1_000), (Phase.WARMUP, 1_000, 1_500), (Phase.MEASURE, 1_500, end_ns // MS))
    reasons = [Reason(code="tail_undersampled", detail="865 samples")] if spec.key.endswith("fp32/b8") else []
    if spec.power_w >= POWER_LIMIT_W:
        reasons.append(Reason(code="power_capped", detail="71 % of the measuring phase"))
    if number == 2 and repeat == 1 and spec.key == "encoder/onnxruntime/int8/b8":
        reasons.append(Reason(code="thermally_throttled", detail="12 % of the measuring phase"))
    started = session["at"] + timedelta(seconds=12 * order)
    device = {"device": "gpu0", "source": "nvml", "name": GPU, "power_limit_mw": 700_000, "max_sm_clock_mhz": 1980}
    record = RunRecord(
        run_id=ids.new_run_id(),
        session_id=session_id(number),
        plan_name=session["plan"],
        case_key=spec.key,
        repeat=repeat,
        order_idx=order,
        identity=_identity(spec),
        status=RunStatus.OK,
        started_at=started.isoformat(),
        ended_at=(started + timedelta(seconds=9)).isoformat(),
        t0_ns=t0,
        environment=session["environment"],
        host={"hostname": "bench-01", "cpu_model": CPU, "cpu_count": 16, "mem_total_mib": 515_000},
        phases=tuple(PhaseMark(name=name, start_ns=t0 + a * MS, end_ns=t0 + b * MS) for name, a, b in marks),
        metrics=(*metrics, *_gpu_means(spec), MetricValue(metric="host_sentinel_ms", value=10.1, n=10)),
        reasons=tuple(reasons),
        engine=_engine(spec),
        realised_precision=spec.key.split("/")[2],
        quality={
            "rate_hz": 10.0,
            "achieved_hz": 9.98,
            "ticks_expected": 75,
            "ticks_made": 75,
            "late_ticks": 1,
            "gaps": 1,
        },
        devices=(device,) if spec.device == GPU else ({"device": "host", "name": CPU},),
        provenance={
            "model_sha256": "5f" * 32,
            "command": None if spec.streams else f"trtexec --loadEngine={spec.model}.plan --shapes=input:8x3x224x224",
            "versions": {"tensorrt": "10.13.2", "cuda": "13.0"},
            "notes": ["CUDA graph on, spin-wait on, no transfers"],
        },
        session=session["facts"],
        stage_s={"load": 1.0, "warmup": 0.5, "measure": (end_ns - 1_500 * MS) / SECOND},
    )
    return record, tables


def _engine(spec: Spec) -> EngineRecord | None:
    if spec.streams:
        return None
    return EngineRecord(
        engine_key=spec.key,
        engine_sha256=ids.content_id({"key": spec.key}, "test").replace("-", "") * 2,
        path=f"engines/{spec.model}.plan",
        size_bytes=53_687_091,
        cached=True,
        build_time_s=None,
        realised_precision=spec.key.split("/")[2],
        fingerprint="c0ffee" * 4,
    )


def unfinished(key: str, status: RunStatus, failure: Failure, *, session: dict, number: int, order: int):
    """Return a run without a result."""
    started = session["at"] + timedelta(seconds=12 * order)
    spec = Spec(key=key, model=key.split("/")[0], device=CPU, streams=0)
    return RunRecord(
        run_id=ids.new_run_id(),
        session_id=session_id(number),
        plan_name=session["plan"],
        case_key=key,
        repeat=0,
        order_idx=order,
        identity=_identity(spec),
        status=status,
        started_at=started.isoformat(),
        ended_at=(started + timedelta(seconds=1)).isoformat(),
        t0_ns=0,
        environment=session["environment"],
        host={"hostname": "bench-01"},
        reasons=(Reason(code="run_failed", detail=failure.code),) if status is RunStatus.FAILED else (),
        failure=failure,
        session=session["facts"],
    )


def session_facts(number: int, plan: str = "nightly") -> dict:
    at = START + timedelta(days=number, minutes=7 * number)
    return {
        "plan": plan,
        "at": at,
        "environment": {
            "os": "Linux",
            "driver": "580.159.04" if number >= 3 else "575.57.08",
            "tensorrt": "10.13.2",
            "onnxruntime": "1.31.1",
        },
        "facts": {
            "started_at": at.isoformat(),
            "label": f"night-{number}",
            "seed": 1,
            "repeats": 3,
            "plan_sha256": "ab" * 32,
            "plan_path": "nightly.toml",
            "git_commit": f"{number:040x}"[::-1],
            "git_branch": "main",
            "git_dirty": False,
            "trigger": "schedule",
        },
    }


def write_session(workspace: Workspace, number: int, *, repeats: int = 3, cases=CASES, slow: dict | None = None) -> str:
    session = session_facts(number)
    order = 0
    for repeat in range(repeats):
        for spec in cases:
            record, tables = finished(
                spec,
                session=session,
                number=number,
                repeat=repeat,
                order=order,
                scale=(slow or {}).get(spec.key, 1.0),
                seed=1000 * number + order,
            )
            write(workspace.spool, record, tables)
            order += 1
    return session_id(number)


def write_unfinished(workspace: Workspace, number: int) -> None:
    session = session_facts(number)
    absent = Failure(
        code="not_available",
        message="backend 'trtllm' is not available: TensorRT-LLM is not installed",
        remedy="pip install 'enginewatch[trtllm]' on a host with an NVIDIA GPU",
    )
    broken = Failure(
        code="unsupported_operator",
        message="onnxruntime 1.31.1 does not know operator 'FusedGelu' (node gelu_3) of decoder.onnx",
        remedy="export the model with opset 20, or register the operator's library",
    )
    for key, status, failure, order in (
        ("llama-7b/trtllm/fp8/c64", RunStatus.NOT_AVAILABLE, absent, 90),
        ("decoder/onnxruntime/fp32/b1", RunStatus.FAILED, broken, 91),
    ):
        record = unfinished(key, status, failure, session=session, number=number, order=order)
        write(workspace.spool, record, {})


def _comparison(key: str, metric: str, verdict: Verdict, rel: float | None, value: float, why: str) -> Comparison:
    half = 0.016
    spec = next((case for case in CASES if case.key == key), None)
    effect = None
    if rel is not None:
        effect = Effect(
            rel=rel, ci_low=rel - half, ci_high=rel + half, confidence=0.95, n_baseline=3, n_candidate=3,
            method="bootstrap-t",
        )  # fmt: skip
    return Comparison(
        case_key=key,
        series_id=ids.series_id(_identity(spec)) if spec else None,
        metric=metric,
        verdict=verdict,
        why=why,
        threshold_rel=0.05,
        baseline_value=value,
        candidate_value=None if rel is None else value * (1 + rel),
        effect=effect,
    )


def judge(workspace: Workspace, candidate: int, baseline: int) -> None:
    comparisons = [
        _comparison("encoder/onnxruntime/int8/b8", "latency_p50_ms", Verdict.REGRESSED, 0.118, 2.1,
                    "the interval [+10.2, +13.4] % lies beyond 5 %"),
        _comparison("encoder/onnxruntime/int8/b8", "latency_p99_ms", Verdict.REGRESSED, 0.109, 2.25,
                    "the interval [+9.3, +12.5] % lies beyond 5 %"),
        _comparison("encoder/onnxruntime/fp32/b8", "latency_p50_ms", Verdict.UNCHANGED, 0.004, 5.2,
                    "the interval [-1.2, +2.0] % lies within 5 %"),
        _comparison("encoder/onnxruntime/fp32/b8", "latency_p99_ms", Verdict.INCONCLUSIVE, 0.042, 5.6,
                    "the interval [+2.6, +5.8] % reaches over 5 %: more repeats would tell"),
        _comparison("resnet50/trtexec/fp16/b8", "latency_p50_ms", Verdict.UNCHANGED, -0.002, 0.91,
                    "the interval [-1.8, +1.4] % lies within 5 %"),
        _comparison("resnet50/trtexec/fp16/b32", "latency_p50_ms", Verdict.IMPROVED, -0.081, 2.3,
                    "the interval [-9.7, -6.5] % lies beyond 5 %"),
        _comparison("llama-7b/openai/bf16/c64", "output_tokens_s", Verdict.UNCHANGED, 0.003, 1108.0,
                    "the interval [-1.3, +1.9] % lies within 5 %"),
        _comparison("decoder/onnxruntime/fp32/b1", "latency_p50_ms", Verdict.FAILED, None, 3.0,
                    "every run of the candidate failed: unsupported_operator"),
    ]  # fmt: skip
    findings = [
        Finding(
            kind=FindingKind.COMPARISON, severity=Severity.CRITICAL, session_id=session_id(candidate),
            title="encoder int8 b8 became 11.8 % slower (latency p50)", detector="gate",
            case_key="encoder/onnxruntime/int8/b8", metric="latency_p50_ms", value=2.348,
            evidence={"effect_rel": 0.118, "ci": [0.102, 0.134]}, remedy="enginewatch compare night-3 night-4",
        ),
        Finding(
            kind=FindingKind.BOTTLENECK, severity=Severity.INFO, session_id=session_id(candidate),
            title="decode is bound by DRAM bandwidth: 63 % of peak at concurrency 1", detector="R7",
            case_key="llama-7b/openai/bf16/c1", metric="dram_bw_mean_pct_of_peak", value=63.0,
            evidence={"dram_bw_mean_pct_of_peak": 63.0, "tensor_active_mean_pct": 4.0},
            remedy="batch more requests, or quantise the weights", confidence="medium",
        ),
        Finding(
            kind=FindingKind.VALIDITY, severity=Severity.WARNING, session_id=session_id(candidate),
            title="the power cap held the SM clock down at concurrency 64", detector="validity.power_capped",
            case_key="llama-7b/openai/bf16/c64", metric="power_capped_time_pct", value=71.0,
            remedy="raise the limit, or accept it as part of the result",
        ),
    ]  # fmt: skip
    findings += limit_findings(session_id(candidate))
    store(
        workspace,
        session_id(candidate),
        baseline_session=session_id(baseline),
        comparisons=comparisons,
        findings=findings,
    )


def limit_findings(session: str) -> list[Finding]:
    """The five limits of some cases, as the judge stores them."""
    told = [
        ("latency_p99_ms", "encoder/onnxruntime/int8/b8", "latency_p99_ms", "met", "p99 of latency 2.49 ms < 200 ms"),
        ("latency_p99_ms", "llama-7b/openai/bf16/c64", "ttft_p99_ms", "met", "p99 of time to first token 81 ms < 200 ms"),
        ("tokens_vs_baseline", "llama-7b/openai/bf16/c64", "output_tokens_s", "met", "tokens/s +0.3 % (unchanged)"),
        ("tokens_vs_baseline", "encoder/onnxruntime/int8/b8", "throughput_qps", "breached",
         "inferences/s −10.6 % against the baseline (regressed)"),
        ("sm_active_pct", "resnet50/trtexec/fp16/b32", "sm_active_mean_pct", "breached", "SM activity 56 % ≤ 70 %"),
        ("sm_active_pct", "encoder/onnxruntime/int8/b8", "sm_active_mean_pct", "not_evaluable",
         "SM activity > 70 % is not evaluable: the case runs on a CPU"),
        ("dram_bw_max_pct", "llama-7b/openai/bf16/c1", "dram_bw_mean_pct_of_peak", "met",
         "memory bandwidth 63 % of peak, within spec (80 % is full in practice)"),
        ("tensor_active_pct", "encoder/onnxruntime/int8/b8", "tensor_active_mean_pct", "not_evaluable",
         "compute utilisation near peak is not evaluable: the case runs on a CPU"),
    ]  # fmt: skip
    return [
        Finding(
            kind=FindingKind.THRESHOLD,
            severity=Severity.WARNING if state == "breached" and limit == "tokens_vs_baseline" else Severity.INFO,
            title=f"{case}: {title}",
            session_id=session,
            detector=f"limit.{limit}",
            case_key=case,
            metric=metric,
            evidence={"state": state, "reason": "as measured"},
        )
        for limit, case, metric, state, title in told
    ]


def build_rich(root) -> Workspace:
    """Four judged sessions: the last one has a regression, a failure and a backend that is not available."""
    workspace = Workspace(root).create()
    for number in (1, 2, 3):
        write_session(workspace, number)
    write_session(workspace, 4, slow={"encoder/onnxruntime/int8/b8": 1.118, "resnet50/trtexec/fp16/b32": 0.919})
    write_unfinished(workspace, 4)
    ingest(workspace)
    accept(workspace, "nightly", session_id(3), by="ana", reason="release 1.4")
    judge(workspace, 4, 3)
    return workspace


def run_ids(workspace: Workspace) -> dict[str, str]:
    """Return case key → its newest run."""
    from enginewatch_db.connect import Reader

    with Reader.open(workspace) as reader:
        rows = reader.console(
            "SELECT case_key, arg_max(run_id, started_at)::VARCHAR AS run_id FROM runs GROUP BY case_key"
        )
    return {row["case_key"]: row["run_id"] for row in rows.to_pylist()}


@pytest.fixture(scope="session")
def rich(tmp_path_factory) -> SimpleNamespace:
    """The seeded store (``.workspace``) and the newest run of each case (``.runs``); read only."""
    workspace = build_rich(tmp_path_factory.mktemp("rich") / "ew")
    return SimpleNamespace(workspace=workspace, runs=run_ids(workspace))


@pytest.fixture(scope="session")
def single(tmp_path_factory) -> SimpleNamespace:
    """A store with one session of two cases and nothing judged; read only."""
    workspace = Workspace(tmp_path_factory.mktemp("single") / "ew").create()
    write_session(workspace, 1, repeats=1, cases=CASES[:2])
    ingest(workspace)
    return SimpleNamespace(workspace=workspace, runs=run_ids(workspace))
