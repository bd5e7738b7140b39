"""Fixtures that more than one component's tests use."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

from enginewatch_db import ids
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Identity, Phase, PhaseMark, RunRecord, RunStatus
from enginewatch_db.quantile import estimate
from enginewatch_db.workspace import Workspace

MS = 1_000_000

# A limit on one example's time is a wall-clock assertion: it fails on a busy machine and says nothing of the code.
# The same examples each time: a change fails for what it did, not for a draw. `make fuzz` draws new ones.
settings.register_profile("enginewatch", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=1000)
settings.load_profile("enginewatch")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell that starts the suite in the background ignores SIGINT, and every child would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """An empty enginewatch folder."""
    return Workspace(tmp_path / "ew").create()


@pytest.fixture
def make_identity() -> Callable[..., Identity]:
    def build(**changes: object) -> Identity:
        base = Identity(
            workload="encoder",
            model="encoder",
            model_sha256="00" * 32,
            backend="onnxruntime",
            precision="fp32",
            device="Test CPU",
            shapes={"input": [8, 16, 64]},
            options={"threads": 1},
            tool_major="1",
        )
        return dataclasses.replace(base, **changes)

    return build


@pytest.fixture
def make_run(make_identity) -> Callable[..., tuple[RunRecord, dict[str, pa.Table]]]:
    """Build a finished run with real samples: median latency ``latency_ms``, ``n`` samples, seeded noise."""

    def build(
        *,
        session_id: str = "01900000-0000-7000-8000-000000000001",
        plan_name: str = "test-plan",
        case_key: str = "encoder/onnxruntime/fp32/b8",
        repeat: int = 0,
        order_idx: int = 0,
        latency_ms: float = 5.0,
        sentinel_ms: float = 10.0,
        noise: float = 0.02,
        n: int = 400,
        seed: int = 0,
        hour: int = 0,
        identity: Identity | None = None,
        extra_metrics: tuple[MetricValue, ...] = (),
        **changes: object,
    ) -> tuple[RunRecord, dict[str, pa.Table]]:
        rng = np.random.default_rng(seed)
        latency_ns = (latency_ms * MS * np.exp(rng.normal(0, noise, n))).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(latency_ns)[:-1]]) + 100 * MS
        window_ns = int(starts[-1] + latency_ns[-1] - starts[0])
        started = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hour, seconds=order_idx)
        t0 = 5_000_000_000
        metrics = [
            MetricValue(metric="throughput_qps", value=n / window_ns * 1e9, n=n),
            MetricValue(metric="host_sentinel_ms", value=sentinel_ms, n=10),
        ]
        for level, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            found = estimate(latency_ns / MS, q)
            metrics.append(
                MetricValue(
                    metric=f"latency_{level}_ms", value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, n=n
                )
            )
        record = RunRecord(
            run_id=ids.new_run_id(),
            session_id=session_id,
            plan_name=plan_name,
            case_key=case_key,
            repeat=repeat,
            order_idx=order_idx,
            identity=identity or make_identity(),
            status=RunStatus.OK,
            started_at=started.isoformat(),
            ended_at=(started + timedelta(seconds=3)).isoformat(),
            t0_ns=t0,
            environment={"os": "Linux", "onnxruntime": "1.31.1"},
            host={"hostname": "testhost", "cpu_model": "Test CPU"},
            phases=(
                PhaseMark(name=Phase.WARMUP, start_ns=t0, end_ns=t0 + 100 * MS),
                PhaseMark(name=Phase.MEASURE, start_ns=t0 + 100 * MS, end_ns=t0 + 100 * MS + window_ns),
            ),
            metrics=(*metrics, *extra_metrics),
            session={"started_at": started.isoformat(), "seed": 1, "repeats": 5, "plan_sha256": "ab"},
        )
        record = dataclasses.replace(record, **changes)
        samples = pa.table({"start_ns": starts, "latency_ns": latency_ns})
        ticks = np.arange(0, window_ns + 100 * MS, 100 * MS, dtype=np.int64)
        telemetry = pa.table(
            {
                "t_ns": ticks,
                "source": ["host"] * ticks.size,
                "device": ["host"] * ticks.size,
                "phase": ["measure" if t >= 100 * MS else "warmup" for t in ticks],
                "cpu_util_pct": rng.uniform(40, 60, ticks.size),
                "cpu_util_core_pct": [[90.0, 10.0]] * ticks.size,
                "host_mem_used_mib": [4000] * ticks.size,
            }
        )
        return record, {"latency_samples": samples, "telemetry": telemetry}

    return build


@pytest.fixture
def stored(workspace, make_run) -> Callable[..., str]:
    """Write a session of runs into the workspace's store: ``stored(session_id, {case: latency_ms}, ...)``."""
    from enginewatch_db.bundle import write
    from enginewatch_db.ingest import ingest

    def build(session_id: str, latencies: dict[str, float], *, repeats: int = 5, run_sd: float = 0.01, **options):
        rng = np.random.default_rng(int(session_id[-4:], 16))
        order = 0
        for repeat in range(repeats):
            for case_key, latency_ms in latencies.items():
                record, tables = make_run(
                    session_id=session_id,
                    case_key=case_key,
                    repeat=repeat,
                    order_idx=order,
                    latency_ms=latency_ms * float(np.exp(rng.normal(0, run_sd))),
                    seed=int(rng.integers(1 << 30)),
                    **options,
                )
                workload = case_key.split("/")[0]
                record = dataclasses.replace(record, identity=dataclasses.replace(record.identity, workload=workload))
                write(workspace.spool, record, tables)
                order += 1
        ingest(workspace)
        return session_id

    return build
