"""Plan ``h200-encoder-builds``: nine builds of one encoder under the quiet protocol, five times each.

Of each run the recording has median, p99 and number of queries, and nothing else: no samples, no telemetry, no
time. The order of the runs is real, their times are made up and say so.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json, Phase, PhaseMark
from enginewatch_db.validity import Reason
from enginewatch_harness.assemble import Stamp, finished_run
from enginewatch_harness.backends.base import Availability, Job, Measurement
from enginewatch_harness.demo import files, stamps
from enginewatch_harness.demo.catalogue import ENCODER_PLAN, RECORDED_ON, UNDATED
from enginewatch_harness.matrix import Case
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared

RUN_NS = 2_000_000_000
"""Each run measured for 2 s."""
SLOT_NS = 10_000_000_000
VERSION = "8.6.0"
NO_SAMPLES = "only median, p99 and number of queries were recorded"
ABSENT = (
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p999_ms",
    "latency_mean_ms",
    "latency_tail_log_ratio",
    "throughput_qps",
)
NOMINAL = "not recorded: the order of the runs is real, their times are nominal"
NOTES = ("engines of one ONNX file, built nine times", f"times: {NOMINAL}")


def planned() -> list[stamps.Planned]:
    """Return the runs in the order in which they were measured."""
    rows: list[Json] = files.read_json("trtexec/build-spread.json.gz")
    midnight = datetime.fromisoformat(f"{RECORDED_ON}T23:00:00").replace(tzinfo=UTC)
    began_ns = int(midnight.timestamp()) * 1_000_000_000
    found = []
    for rep in sorted({int(row["rep"]) for row in rows}):
        first = next(number for number, row in enumerate(rows) if row["rep"] == rep)
        mine = [row for row in rows if row["rep"] == rep]
        session = stamps.Session(
            plan=ENCODER_PLAN,
            label=f"round-{rep}",
            started_ns=began_ns + first * SLOT_NS,
            repeats=len(mine),
            environment=stamps.environment(tensorrt=VERSION),
            notes=NOTES,
            origin=UNDATED,
        )
        found += [_plan_run(session, row, order_idx) for order_idx, row in enumerate(mine)]
    return found


def _plan_run(session: stamps.Session, row: Json, order_idx: int) -> stamps.Planned:
    started_ns = session.started_ns + order_idx * SLOT_NS
    name = f"engine {row['engine']}, round {row['rep']}"
    stamp = session.stamp(name=name, started_ns=started_ns, repeat=int(row["engine"]), order_idx=order_idx)
    return stamps.Planned(stamp=stamp, make=lambda: _make(stamp, row, started_ns))


def _make(stamp: Stamp, row: Json, started_ns: int) -> stamps.Parts:
    window_ns = (started_ns, started_ns + RUN_NS)
    record, tables = finished_run(
        stamp,
        _prepared(int(row["batch"])),
        Measurement(
            tables={},
            window_ns=window_ns,
            metrics=_metrics(row),
            effective_options={"cuda_graph": True, "spin_wait": True, "data_transfers": False},
            realised_precision=None,
            versions={"tensorrt": VERSION},
            counts={"inferences": float(row["n"])},
            notes=(NO_SAMPLES, "no transfers: latency is GPU time"),
        ),
        ended_at=stamps.iso(window_ns[1]),
        t0_ns=started_ns,
        phases=(PhaseMark(name=Phase.MEASURE, start_ns=window_ns[0], end_ns=window_ns[1]),),
        engine=None,
        sentinel_ns=(),
        telemetry=None,
        # The first reason of a code stands: this one says more than the harness would.
        preflight=(Reason(code="telemetry_absent", detail="none was recorded beside these runs"),),
    )
    record = dataclasses.replace(record, stage_s={})
    return stamps.as_recorded(record, {"engine": row["engine"], "round": row["rep"], "time": NOMINAL}), tables


def _metrics(row: Json) -> tuple[MetricValue, ...]:
    n = int(row["n"])
    values = {"p50": float(row["p50_ms"]), "p99": float(row["p99_ms"])}
    # Without transfers the tool's latency is its GPU time.
    measured = [
        MetricValue(metric=f"{stem}_{level}_ms", value=value, n=n)
        for stem in ("latency", "gpu_time")
        for level, value in values.items()
    ]
    return (*measured, *(MetricValue(metric=metric, value=None, absent_reason=NO_SAMPLES) for metric in ABSENT))


def _prepared(batch: int) -> Prepared:
    case = Case(
        key=f"encoder/trtexec/fp16/b{batch}",
        workload="encoder",
        model=ModelTable(name="encoder", path="models/encoder.onnx"),
        backend="trtexec",
        precision="fp16",
        warmup_s=0.0,
        duration_s=RUN_NS / 1e9,
        batch=batch,
        options={"protocol": "quiet"},
    )
    job = Job(
        case_key=case.key,
        workload=case.workload,
        model_path=Path(str(case.model.path)),
        model_name=case.model.name,
        precision=case.precision,
        # The other dimensions of the input were not recorded.
        shapes={"input": (batch,)},
        warmup_s=case.warmup_s,
        duration_s=case.duration_s,
        seed=0,
    )
    device = str(stamps.device_facts()["name"])
    found = Availability(available=True, version=VERSION, device=device)
    return Prepared(case=case, availability=found, device=device, model_sha256=None, job=job)
