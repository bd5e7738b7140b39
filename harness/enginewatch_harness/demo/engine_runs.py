"""Plan ``h200-resnet50``: ResNet-50 in trtexec 8.6, five cases, and one of them again and again."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.model import EngineRecord, Json, Phase, PhaseMark
from enginewatch_harness.assemble import Stamp, finished_run
from enginewatch_harness.backends.base import Availability, Job, Measurement
from enginewatch_harness.demo import files, placing, stamps
from enginewatch_harness.demo.catalogue import AGAIN, BUILDS, ENGINE_RUNS, FIRST, RESNET_PLAN, EngineRun
from enginewatch_harness.engine_cache import engine_key
from enginewatch_harness.matrix import Case
from enginewatch_harness.parse.trtexec_json import parse_profile
from enginewatch_harness.parse.trtexec_layers import fingerprint, layers_table, parse_layers, realised_precision
from enginewatch_harness.parse.trtexec_log import TrtexecLog, judge_build, judge_run, parse_log
from enginewatch_harness.parse.trtexec_summary import coefficient_of_variation_pct
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared

if TYPE_CHECKING:
    import pyarrow as pa

MIB = 2**20
NOTES = {
    FIRST: ("the runs were grouped into sessions afterwards",),
    AGAIN: (
        "the runs were grouped into sessions afterwards",
        "the engine is that of the session before: what differs is noise, and the default protocol has 5 % of it",
    ),
}


def planned() -> list[stamps.Planned]:
    """Return the runs in the order in which they were measured."""
    telemetry = files.read_telemetry("trtexec")
    rows = {run.name: placing.rows_of(telemetry, run.name) for run in ENGINE_RUNS}
    found = []
    for label in (FIRST, AGAIN):
        runs = [run for run in ENGINE_RUNS if run.session == label]
        session = stamps.Session(
            plan=RESNET_PLAN,
            label=label,
            started_ns=_first_ns(rows[runs[0].name]),
            repeats=1 + max(run.repeat for run in runs),
            environment=stamps.environment(tensorrt=_build(runs[0].precision).version or "8.6"),
            notes=NOTES[label],
        )
        for order_idx, run in enumerate(runs):
            found.append(_plan_run(session, run, order_idx, rows[run.name]))
    return found


def _plan_run(session: stamps.Session, run: EngineRun, order_idx: int, rows: pa.Table) -> stamps.Planned:
    stamp = session.stamp(name=run.name, started_ns=_first_ns(rows), repeat=run.repeat, order_idx=order_idx)
    return stamps.Planned(stamp=stamp, make=lambda: _make(stamp, run, rows))


def _first_ns(rows: pa.Table) -> int:
    return int(rows.column("t_ns")[0].as_py())


def _make(stamp: Stamp, run: EngineRun, rows: pa.Table) -> stamps.Parts:
    log = _log(run.name)
    samples = files.read_table(f"trtexec/{run.name}.times.parquet")
    t_ns = rows.column("t_ns").to_numpy()
    t0_ns, end_ns = int(t_ns[0]), int(t_ns[-1])
    # The tool's clock starts with its warm-up, which is when the GPU becomes busy.
    busy_ns = placing.busy_from_ns(t_ns, rows.column("sm_active_pct").to_numpy())
    first_ns = busy_ns + int(samples.column("start_ns")[0].as_py())
    walltime_s = (log.summary.walltime_s if log.summary else None) or 0.0
    window_ns = (first_ns, first_ns + round(walltime_s * 1e9))
    marks = (
        PhaseMark(name=Phase.LOAD, start_ns=t0_ns, end_ns=busy_ns),
        PhaseMark(name=Phase.WARMUP, start_ns=busy_ns, end_ns=window_ns[0]),
        PhaseMark(name=Phase.MEASURE, start_ns=window_ns[0], end_ns=window_ns[1]),
        PhaseMark(name=Phase.DRAIN, start_ns=window_ns[1], end_ns=end_ns + 1),
    )
    record, tables = finished_run(
        stamp,
        _prepared(run, log),
        _measurement(run, log, samples, busy_ns - t0_ns, window_ns),
        ended_at=stamps.iso(end_ns),
        t0_ns=t0_ns,
        phases=marks,
        engine=_engine(run.precision, cached=run.session != FIRST),
        sentinel_ns=(),
        telemetry=stamps.telemetry_of(rows),
        preflight=(),
    )
    return stamps.as_recorded(record, _origin(run)), tables


def _origin(run: EngineRun) -> Json:
    return {
        "name": run.name,
        "telemetry": "placed to about 0.2 s: the warm-up begins where SM activity rises",
        "after_measuring": "trtexec's separate profile run: slower, with layer timing on",
    }


@cache
def _log(name: str) -> TrtexecLog:
    return parse_log(
        files.read_bytes(f"trtexec/{name}.stdout.log.gz"), files.read_bytes(f"trtexec/{name}.stderr.log.gz")
    )


def _build(precision: str) -> TrtexecLog:
    return _log(BUILDS[precision])


def _exit_code(name: str) -> int:
    return int(files.read_json("trtexec/exit-codes.json")[name])


def _prepared(run: EngineRun, log: TrtexecLog) -> Prepared:
    options = log.options
    case = Case(
        key=f"resnet50/trtexec/{run.precision}/b{run.batch}",
        workload="resnet50",
        model=ModelTable(name="resnet50", path="models/resnet50.onnx"),
        backend="trtexec",
        precision=run.precision,
        warmup_s=(options.warmup_ms or 0.0) / 1000,
        duration_s=options.duration_s or 0.0,
        batch=run.batch,
        options={"protocol": "classic"},
    )
    job = Job(
        case_key=case.key,
        workload=case.workload,
        model_path=Path(str(case.model.path)),
        model_name=case.model.name,
        precision=case.precision,
        shapes={"input": (run.batch, 3, 224, 224)},
        warmup_s=case.warmup_s,
        duration_s=case.duration_s,
        seed=0,
    )
    device = str(log.device.name)
    found = Availability(available=True, version=log.version, device=device)
    return Prepared(case=case, availability=found, device=device, model_sha256=None, job=job)


def _measurement(
    run: EngineRun, log: TrtexecLog, samples: pa.Table, offset_ns: int, window_ns: tuple[int, int]
) -> Measurement:
    starts = samples.column("start_ns").to_numpy() + offset_ns
    placed = samples.set_column(samples.schema.get_field_index("start_ns"), "start_ns", [starts])
    tables = {"latency_samples": placed}
    realised = None
    if run.layers:
        profile = parse_profile(files.read_text(f"trtexec/{run.name}.profile.json.gz"))
        layers = parse_layers(files.read_text(f"trtexec/{run.name}.layers.json.gz"))
        tables["layers"] = layers_table(profile, layers)
        realised = realised_precision(layers, profile)
    gpu_ms = samples.column("gpu_ns").to_numpy().astype(np.float64) / 1e6
    what = f"run {run.name}"
    build = BUILDS[run.precision]
    return Measurement(
        tables=tables,
        window_ns=window_ns,
        reasons=(
            *judge_run(log, _exit_code(run.name), what=what),
            *judge_build(_log(build), _exit_code(build), engine_saved=True, what=f"build {build}"),
            *log.reasons(coefficient_of_variation_pct(gpu_ms)),
        ),
        realised_precision=realised or _engine(run.precision, cached=True).realised_precision,
        effective_options=log.options.effective(),
        versions={"tensorrt": str(log.version)},
        command=log.banners[0].command,
        counts={"inferences": float(samples.num_rows)},
        notes=log.notes(),
    )


@cache
def _engine(precision: str, *, cached: bool) -> EngineRecord:
    """Return the engine as its build's log and its layer information describe it; the file itself was not kept."""
    log, name = _build(precision), f"trtexec/resnet50-{precision}-b8.layers.json.gz"
    layers = parse_layers(files.read_text(name))
    command = log.banners[0].command
    size_mib = log.build.engine_size_mib or 0.0
    return EngineRecord(
        engine_key=engine_key(
            model_sha256="not recorded",
            backend="trtexec",
            version=log.version,
            device=str(log.device.name),
            precision=precision,
            options={"command": command},
        ),
        engine_sha256=hashlib.sha256(files.read_bytes(name)).hexdigest(),
        path=f"models/resnet50-{precision}.engine",
        size_bytes=round(size_mib * MIB),
        cached=cached,
        build_time_s=None if cached else log.build.build_time_s,
        realised_precision=realised_precision(layers),
        fingerprint=fingerprint(layers),
        details={
            "file": "not kept: engine_sha256 is the hash of its layer information, size_bytes what the log says in MiB",
            "command": command,
            "build_exit_code": _exit_code(BUILDS[precision]),
            "parse_time_s": log.build.parse_time_s,
            "peak_gpu_mib": log.build.peak_gpu_mib,
            "notes": list(log.notes()),
        },
    )
