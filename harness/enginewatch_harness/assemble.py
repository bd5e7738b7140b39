"""Put one run together: samples, telemetry, control and provenance become a ``RunRecord`` and its tables. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_collector.summary import summarise, telemetry_reasons
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Failure, Identity, Json, Phase, PhaseMark, RunRecord, RunStatus
from enginewatch_db.quantile import estimate
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Measurement
from enginewatch_harness.input_data import CALIBRATION
from enginewatch_harness.load.identity import load_identity, slo_identity
from enginewatch_harness.prepare import Prepared
from enginewatch_harness.summarise import engine_metrics, sample_reasons

if TYPE_CHECKING:
    import pyarrow as pa

HIDDEN_OPTIONS = frozenset(
    {
        "accuracy",
        "accuracy_batches",
        "accuracy_data",
        "api_key_env",
        "body",
        "build_timeout_s",
        "ca_file",
        "device_name",
        "env",
        "fresh_prompts",
        "generate",
        "gpus",
        "headers_env",
        "inject_delay_ms",
        "inject_delay_pct",
        "outage_s",
        "port",
        "profile",
        "nsys",
        "nvtx",
        "ready_path",
        "ready_timeout_s",
        "request_timeout_s",
        "runtime_cache",
        "scrape_hz",
        "served_model",
        "server",
        "server_metrics",
        "stop_grace_s",
        "timing_cache",
        "trtexec",
        "trtllm_bench",
        "trtllm_build",
        "url",
        "verify_tls",
    }
)
"""Options that do not change what is meant to be measured, or that a backend tells in its effective options."""


GPU_REASONS = frozenset({"power_capped", "thermally_throttled", "clocks_unstable", "foreign_process", "gpu_lost"})
"""What the GPU suffers says nothing about a run on the CPU beside it."""


_AFTERWARDS = frozenset({Phase.DRAIN, Phase.PROFILE, Phase.ACCURACY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the collector brought; ``table`` has absolute monotonic times."""

    table: pa.Table
    quality: Json
    devices: tuple[Json, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the harness knows about a run before it starts."""

    run_id: str
    session_id: str
    plan_name: str
    repeat: int
    order_idx: int
    started_at: str
    environment: Json
    host: Json
    session: Json


def identity_of(prepared: Prepared, measurement: Measurement | None = None) -> Identity:
    """Return what must be equal for another run to be compared with this one."""
    case = prepared.case
    found = (None, None) if measurement is None else (measurement.device, measurement.device_count)
    sha256 = prepared.calibration_sha256
    options: Json = {
        "warmup_ms": round(case.warmup_s * 1000),
        "duration_ms": round(case.duration_s * 1000),
        **{name: value for name, value in case.options.items() if name not in HIDDEN_OPTIONS},
        # Other inputs calibrate another engine, a copy of them elsewhere does not.
        **({} if sha256 is None else {CALIBRATION: sha256[:16]}),
        **({} if measurement is None else measurement.effective_options),
        **(slo_identity(case.load) if case.load is not None else {}),
    }
    return Identity(
        workload=case.workload,
        model=case.model.name,
        # A new export of the same model must stay comparable: its hash explains a change, it is not the identity.
        model_sha256=None,
        backend=case.backend,
        precision=case.precision,
        device=found[0] or prepared.device,
        device_count=found[1] or 1,
        shapes={name: list(dims) for name, dims in (prepared.job.shapes if prepared.job else {}).items()},
        load=load_identity(case.load, dataset_sha256=prepared.dataset_sha256) if case.load else {},
        options={name: repr(value) if isinstance(value, float) else value for name, value in options.items()},
        tool_major=(prepared.availability.version or "").split(".")[0] or None,
    )


def failed_run(
    stamp: Stamp,
    prepared: Prepared,
    failure: Failure,
    *,
    ended_at: str,
    t0_ns: int,
    phases: tuple[PhaseMark, ...] = (),
    engine: EngineRecord | None = None,
) -> RunRecord:
    """Return the record of a run that has no result."""
    absent = failure.code == "not_available"
    return RunRecord(
        run_id=stamp.run_id,
        session_id=stamp.session_id,
        plan_name=stamp.plan_name,
        case_key=prepared.case.key,
        repeat=stamp.repeat,
        order_idx=stamp.order_idx,
        identity=identity_of(prepared),
        status=RunStatus.NOT_AVAILABLE if absent else RunStatus.FAILED,
        started_at=stamp.started_at,
        ended_at=ended_at,
        t0_ns=t0_ns,
        environment=_environment(stamp, prepared),
        host=stamp.host,
        session=stamp.session,
        phases=phases,
        engine=engine,
        reasons=() if absent else (Reason(code="run_failed", detail=failure.code),),
        failure=failure,
        provenance={"model_sha256": prepared.model_sha256},
        device_uuid=_uuid(prepared),
    )


def finished_run(
    stamp: Stamp,
    prepared: Prepared,
    measurement: Measurement,
    *,
    ended_at: str,
    t0_ns: int,
    phases: tuple[PhaseMark, ...],
    engine: EngineRecord | None,
    sentinel_ns: tuple[int, ...],
    telemetry: Telemetry | None,
    preflight: tuple[Reason, ...],
) -> tuple[RunRecord, dict[str, pa.Table]]:
    """Return the record of a measured run and its tables, with times relative to ``t0_ns``."""
    marks = _exact_window(phases, measurement.window_ns)
    tables = dict(measurement.tables)
    metrics = [*measurement.metrics, *_control(sentinel_ns), *_engine_facts(engine), *_load_time(measurement, marks)]
    reasons = [*preflight, *measurement.reasons]
    if "latency_samples" in tables:
        samples = tables["latency_samples"]
        metrics += engine_metrics(samples, batch=prepared.case.batch, window_ns=measurement.window_ns)
        reasons += sample_reasons(samples)
    quality: Json = {}
    devices: tuple[Json, ...] = ()
    if telemetry is None:
        reasons.append(Reason(code="telemetry_absent", detail="the collector brought nothing"))
    else:
        start_ns, end_ns = measurement.window_ns
        metrics += summarise(telemetry.table, start_ns, end_ns, output_tokens=measurement.counts.get("output_tokens"))
        own = measurement.own_pids
        found = telemetry_reasons(telemetry.table, telemetry.quality, start_ns, end_ns, own_pids=own)
        device = measurement.device or prepared.device
        reasons += [reason for reason in found if reason.code not in GPU_REASONS or _runs_on_gpu(device, telemetry)]
        tables["telemetry"] = place_telemetry(telemetry.table, marks, t0_ns)
        quality, devices = telemetry.quality, telemetry.devices
    case = prepared.case
    record = RunRecord(
        run_id=stamp.run_id,
        session_id=stamp.session_id,
        plan_name=stamp.plan_name,
        case_key=case.key,
        repeat=stamp.repeat,
        order_idx=stamp.order_idx,
        identity=identity_of(prepared, measurement),
        status=RunStatus.OK,
        started_at=stamp.started_at,
        ended_at=ended_at,
        t0_ns=t0_ns,
        environment=_environment(stamp, prepared),
        host=stamp.host,
        session=stamp.session,
        phases=marks,
        metrics=tuple(metrics),
        reasons=_unique(reasons),
        engine=engine,
        realised_precision=measurement.realised_precision,
        quality=quality,
        devices=devices,
        provenance={
            "model_sha256": prepared.model_sha256,
            "command": measurement.command,
            "versions": measurement.versions,
            "notes": list(measurement.notes),
            "counts": measurement.counts,
            "injected": {name: value for name, value in case.options.items() if name.startswith("inject_")} or None,
        },
        stage_s={mark.name.value: (mark.end_ns - mark.start_ns) / 1e9 for mark in marks},
        device_uuid=_uuid(prepared),
    )
    return record, tables


def _uuid(prepared: Prepared) -> str | None:
    return prepared.case.bound.uuid if prepared.case.bound else None


def _environment(stamp: Stamp, prepared: Prepared) -> Json:
    """Return the facets of the run: driver, and which of equal GPUs it was, may explain a change and forbid nothing."""
    gpu = prepared.case.bound
    facets = {} if gpu is None else {"gpu_uuid": gpu.uuid, "gpu_driver": gpu.driver}
    return {**stamp.environment, **{name: value for name, value in facets.items() if value is not None}}


def _runs_on_gpu(device: str, telemetry: Telemetry) -> bool:
    names = [str(found.get("name")) for found in telemetry.devices if found.get("source") != "host"]
    return any(name in device for name in names)


def _unique(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple({reason.code: reason for reason in reversed(reasons)}.values())[::-1]


def _exact_window(phases: tuple[PhaseMark, ...], window_ns: tuple[int, int]) -> tuple[PhaseMark, ...]:
    """Return the phases with the measuring phase as the backend timed it; its neighbours give way."""
    start_ns, end_ns = window_ns
    exact = []
    for mark in phases:
        if mark.name is Phase.MEASURE:
            exact.append(PhaseMark(name=mark.name, start_ns=start_ns, end_ns=end_ns))
        elif mark.name in _AFTERWARDS:
            start = end_ns if mark.name is Phase.DRAIN else max(end_ns, mark.start_ns)
            exact.append(PhaseMark(name=mark.name, start_ns=start, end_ns=max(end_ns, mark.end_ns)))
        else:
            exact.append(PhaseMark(name=mark.name, start_ns=mark.start_ns, end_ns=min(mark.end_ns, start_ns)))
    merged: dict[Phase, PhaseMark] = {}
    for mark in exact:
        first = merged.get(mark.name, mark)
        merged[mark.name] = PhaseMark(name=mark.name, start_ns=first.start_ns, end_ns=mark.end_ns)
    return tuple(merged.values())


def place_telemetry(table: pa.Table, phases: tuple[PhaseMark, ...], t0_ns: int) -> pa.Table:
    """Return telemetry with times relative to ``t0_ns`` and each row's phase."""
    import pyarrow as pa

    t_ns = table.column("t_ns").to_numpy()
    names = np.full(t_ns.size, None, dtype=object)
    for mark in phases:
        names[(t_ns >= mark.start_ns) & (t_ns < mark.end_ns)] = mark.name.value
    placed = table.set_column(table.schema.get_field_index("t_ns"), "t_ns", pa.array(t_ns - t0_ns))
    phase = pa.array(names.tolist(), type=pa.string())
    index = placed.schema.get_field_index("phase")
    return placed.append_column("phase", phase) if index < 0 else placed.set_column(index, "phase", phase)


def _control(sentinel_ns: tuple[int, ...]) -> list[MetricValue]:
    if not sentinel_ns:
        return []
    found = estimate(np.asarray(sentinel_ns) / 1e6, 0.5)
    return [
        MetricValue(metric="host_sentinel_ms", value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, n=found.n)
    ]


def _engine_facts(engine: EngineRecord | None) -> list[MetricValue]:
    if engine is None:
        return []
    built = engine.build_time_s
    reason = None if built is not None else "the engine came from the cache"
    return [
        MetricValue(metric="build_time_s", value=built, absent_reason=reason),
        MetricValue(metric="engine_size_mib", value=engine.size_bytes / 2**20),
    ]


def _load_time(measurement: Measurement, phases: tuple[PhaseMark, ...]) -> list[MetricValue]:
    if any(metric.metric == "load_time_s" for metric in measurement.metrics):
        return []
    return [
        MetricValue(metric="load_time_s", value=(mark.end_ns - mark.start_ns) / 1e9)
        for mark in phases
        if mark.name is Phase.LOAD
    ]
