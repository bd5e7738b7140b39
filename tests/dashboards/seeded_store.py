"""A store with everything that the dashboard shows: several sessions, a regression, failures, LLM and GPU runs.

Loaded by ``conftest.py``; no test imports it.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from enginewatch_db import ids, model
from enginewatch_db.bundle import write
from enginewatch_db.metrics import MetricValue
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


def identity(spec: Spec) -> model.Identity:
    workload, backend, precision, feed = spec.key.split("/")
    return model.Identity(
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
            # fmt: off
            rows.append({
                "request_idx": len(rows), "stream": stream, "phase": "warmup" if now < 1_500 * MS else "measure",
                "status": "error" if broken else "ok", "error_class": "http_503" if broken else None,
                "sent_at_ns": now, "intended_at_ns": now, "ttft_ns": None if broken else ttft,
                "e2e_ns": 4 * MS if broken else ttft + int(gaps.sum()), "output_tokens": 0 if broken else tokens,
                "itl_ns": None if broken else gaps.tolist(),
            })
            # fmt: on
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


def _when(session: dict, order: int, seconds: int) -> dict[str, str]:
    started = session["at"] + timedelta(seconds=12 * order)
    return {"started_at": started.isoformat(), "ended_at": (started + timedelta(seconds=seconds)).isoformat()}


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
    marks = (("load", 0, 1_000), ("warmup", 1_000, 1_500), ("measure", 1_500, end_ns // MS))
    reasons = [Reason(code="tail_undersampled", detail="865 samples")] if spec.key.endswith("fp32/b8") else []
    if spec.power_w >= POWER_LIMIT_W:
        reasons.append(Reason(code="power_capped", detail="71 % of the measuring phase"))
    if number == 2 and repeat == 1 and spec.key == "encoder/onnxruntime/int8/b8":
        reasons.append(Reason(code="thermally_throttled", detail="12 % of the measuring phase"))
    gpu = {"device": "gpu0", "source": "nvml", "name": GPU, "power_limit_mw": 700_000, "max_sm_clock_mhz": 1980}
    # fmt: off
    record = model.RunRecord(
        run_id=ids.new_run_id(), session_id=session_id(number), plan_name=session["plan"], case_key=spec.key,
        repeat=repeat, order_idx=order, identity=identity(spec), status=model.RunStatus.OK, t0_ns=t0,
        environment=session["environment"], host={"hostname": "bench-01", "cpu_model": CPU, "cpu_count": 16},
        phases=tuple(_mark(name, t0 + a * MS, t0 + b * MS) for name, a, b in marks),
        metrics=(*metrics, *_gpu_means(spec), MetricValue(metric="host_sentinel_ms", value=10.1, n=10)),
        reasons=tuple(reasons), engine=_engine(spec), realised_precision=spec.key.split("/")[2],
        quality={"rate_hz": 10.0, "achieved_hz": 9.98, "ticks_made": 75, "late_ticks": 1, "gaps": 1},
        devices=(gpu,) if spec.device == GPU else ({"device": "host", "name": CPU},),
        provenance={
            "model_sha256": "5f" * 32,
            "command": None if spec.streams else f"trtexec --loadEngine={spec.model}.plan --shapes=input:8x3x224x224",
            "versions": {"tensorrt": "10.13.2", "cuda": "13.0"},
            "notes": ["CUDA graph on, spin-wait on, no transfers"],
        },
        session=session["facts"], stage_s={"load": 1.0, "warmup": 0.5, "measure": (end_ns - 1_500 * MS) / SECOND},
        **_when(session, order, 9),
    )
    # fmt: on
    return record, tables


def _mark(name: str, start_ns: int, end_ns: int) -> model.PhaseMark:
    return model.PhaseMark(name=model.Phase(name), start_ns=start_ns, end_ns=end_ns)


def _engine(spec: Spec) -> model.EngineRecord | None:
    if spec.streams:
        return None
    sha256 = ids.content_id({"key": spec.key}, "test").replace("-", "") * 2
    return model.EngineRecord(
        engine_key=spec.key, engine_sha256=sha256, path=f"engines/{spec.model}.plan", size_bytes=53_687_091,
        cached=True, realised_precision=spec.key.split("/")[2], fingerprint="c0ffee" * 4,
    )  # fmt: skip


def unfinished(
    key: str, status: model.RunStatus, failure: model.Failure, *, session: dict, number: int, order: int
) -> model.RunRecord:
    """Return a run without a result."""
    return model.RunRecord(
        run_id=ids.new_run_id(), session_id=session_id(number), plan_name=session["plan"], case_key=key, repeat=0,
        order_idx=order, identity=identity(Spec(key=key, model=key.split("/")[0])), status=status, t0_ns=0,
        environment=session["environment"], host={"hostname": "bench-01"}, failure=failure, session=session["facts"],
        reasons=(Reason(code="run_failed", detail=failure.code),) if status is model.RunStatus.FAILED else (),
        **_when(session, order, 1),
    )  # fmt: skip


def session_facts(number: int) -> dict:
    at = START + timedelta(days=number, minutes=7 * number)
    driver = "580.159.04" if number >= 3 else "575.57.08"
    return {
        "plan": "nightly",
        "at": at,
        "environment": {"os": "Linux", "driver": driver, "tensorrt": "10.13.2", "onnxruntime": "1.31.1"},
        "facts": {
            "started_at": at.isoformat(), "label": f"night-{number}", "seed": 1, "repeats": 3, "plan_sha256": "ab" * 32,
            "plan_path": "nightly.toml", "git_commit": f"{number:040x}"[::-1], "git_branch": "main", "git_dirty": False,
            "trigger": "schedule",
        },
    }  # fmt: skip


def write_session(
    workspace: Workspace, number: int, *, repeats: int = 3, cases=CASES, slow: dict | None = None
) -> None:
    session = session_facts(number)
    for repeat in range(repeats):
        for place, spec in enumerate(cases):
            order = repeat * len(cases) + place
            record, tables = finished(
                spec, session=session, number=number, repeat=repeat, order=order,
                scale=(slow or {}).get(spec.key, 1.0), seed=1000 * number + order,
            )  # fmt: skip
            write(workspace.spool, record, tables)


def write_unfinished(workspace: Workspace, number: int) -> None:
    absent = model.Failure(
        code="not_available",
        message="backend 'trtllm' is not available: TensorRT-LLM is not installed",
        remedy="pip install 'enginewatch[trtllm]' on a host with an NVIDIA GPU",
    )
    broken = model.Failure(
        code="unsupported_operator",
        message="onnxruntime 1.31.1 does not know operator 'FusedGelu' (node gelu_3) of decoder.onnx",
        remedy="export the model with opset 20, or register the operator's library",
    )
    for key, status, failure, order in (
        ("llama-7b/trtllm/fp8/c64", model.RunStatus.NOT_AVAILABLE, absent, 90),
        ("decoder/onnxruntime/fp32/b1", model.RunStatus.FAILED, broken, 91),
    ):
        record = unfinished(key, status, failure, session=session_facts(number), number=number, order=order)
        write(workspace.spool, record, {})
