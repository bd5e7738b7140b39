"""The store against its limit: what a bundle costs over plainly writing and reading the same Parquet bytes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from enginewatch_db import bundle, ids
from enginewatch_db.ingest import ingest
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Identity, RunRecord, RunStatus
from enginewatch_db.workspace import Workspace

RUNS = 50
SAMPLES = 5_000


def make_run(order: int, rng: np.random.Generator) -> tuple[RunRecord, dict[str, pa.Table]]:
    identity = Identity(workload="w", model="m", model_sha256=None, backend="b", precision="fp32", device="d")
    record = RunRecord(
        run_id=ids.new_run_id(),
        session_id="01900000-0000-7000-8000-000000000001",
        plan_name="bench",
        case_key="w/b/fp32/b1",
        repeat=order,
        order_idx=order,
        identity=identity,
        status=RunStatus.OK,
        started_at="2026-11-01T00:00:00+00:00",
        ended_at="2026-11-01T00:00:01+00:00",
        t0_ns=0,
        environment={"os": "Linux"},
        host={"hostname": "h"},
        metrics=(MetricValue(metric="latency_p50_ms", value=1.0, n=SAMPLES),),
    )
    latency = rng.lognormal(14, 0.05, SAMPLES).astype(np.int64)
    return record, {"latency_samples": pa.table({"start_ns": np.cumsum(latency), "latency_ns": latency})}


def main() -> None:
    """Print seconds per run and the ratio to the limit."""
    rng = np.random.default_rng(1)
    runs = [make_run(order, rng) for order in range(RUNS)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for order, (_, tables) in enumerate(runs):
            path = Path(folder) / f"{order}.parquet"
            pq.write_table(tables["latency_samples"], path, compression="zstd")
            pq.read_table(path)
        limit_s = time.perf_counter() - began

        workspace = Workspace(Path(folder) / "ew").create()
        began = time.perf_counter()
        for record, tables in runs:
            bundle.write(workspace.spool, record, tables)
        write_s = time.perf_counter() - began
        began = time.perf_counter()
        report = ingest(workspace)
        ingest_s = time.perf_counter() - began
    assert len(report.ingested) == RUNS
    print(f"{RUNS} runs of {SAMPLES} samples; plain Parquet write + read: {limit_s / RUNS * 1e3:.1f} ms a run")
    print(f"durable bundle (fsync, checksums, rename): {write_s / limit_s:.1f} x the limit")
    rate = RUNS / ingest_s
    print(f"ingest with ledger and read copy: {ingest_s / limit_s:.1f} x the limit ({rate:.0f} runs/s)")


if __name__ == "__main__":
    main()
