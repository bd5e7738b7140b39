"""From the spool into the store: idempotent by run id, one transaction a bundle, bad bundles set aside."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from enginewatch_db import ids
from enginewatch_db.bundle import TEMPORARY_PREFIX, Bundle, read
from enginewatch_db.connect import writer
from enginewatch_db.errors import BundleError, StorageError
from enginewatch_db.model import BUNDLE_SCHEMA, IDENTITY_VERSION, Json, RunRecord
from enginewatch_db.tables import SCHEMAS
from enginewatch_db.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What one pass over the spool did.

    Attributes:
        ingested: Run ids that are in the store now and were not before.
        known: Run ids that were there already.
        quarantined: Bundle name → why it could not be read.
    """

    ingested: tuple[str, ...]
    known: tuple[str, ...]
    quarantined: dict[str, str]


def ingest(workspace: Workspace, *, wait_s: float = 60.0) -> IngestReport:
    """Move every finished bundle of the spool into the store, and publish a read copy.

    The row in ``ingest_ledger`` is written in the transaction of the run, so a kill at any moment neither loses
    nor doubles it. A bundle that cannot be read goes to quarantine with its reason, and the rest goes in.

    Raises:
        StoreLockedError: Another process wrote for longer than ``wait_s``.
        StoreVersionError: The store is newer than this enginewatch.
        StorageError: The disk is full, or the store cannot be written.
    """
    ingested: list[str] = []
    known: list[str] = []
    quarantined: dict[str, str] = {}
    with writer(workspace, wait_s=wait_s) as connection:
        _set_half_bundles_aside(workspace, connection, quarantined)
        for path in sorted(entry for entry in workspace.spool.iterdir() if not entry.name.startswith(".")):
            try:
                bundle = read(path)
                is_new = insert(connection, bundle)
            except (BundleError, duckdb.DataError, duckdb.IntegrityError, duckdb.ProgrammingError) as error:
                _quarantine(workspace, connection, path, str(error).splitlines()[0], quarantined)
                continue
            (ingested if is_new else known).append(bundle.record.run_id)
            _move(path, workspace.done / f"dt={bundle.record.started_at[:10]}")
    return IngestReport(ingested=tuple(ingested), known=tuple(known), quarantined=quarantined)


CONCLUSIONS = ("baselines", "verdicts", "findings", "finding_events", "good_engines")
"""What people and judges added: it is in no bundle, so a rebuild takes it over from the old file."""


def rebuild(workspace: Workspace) -> tuple[IngestReport, Path | None]:
    """Make the store again from the bundles in ``done``; verdicts, findings and baselines are taken over.

    Returns:
        What was ingested, and where the old file is kept; ``None`` where there was none.

    Raises:
        StoreLockedError: A session measures, or another process writes.
        StorageError: As ``ingest``; also when the old file cannot be read, after the runs are in the new one.
    """
    aside = None
    with (
        workspace.lock("session", wait_s=0.0, busy="a session measures with this store"),
        workspace.lock("ingest", wait_s=60.0, busy="another enginewatch process writes to the store"),
    ):
        if workspace.store.exists():
            aside = workspace.root / f"store.before-rebuild-{time.time_ns()}.duckdb"
            workspace.store.replace(aside)
        workspace.store.with_suffix(".duckdb.wal").unlink(missing_ok=True)
        for path in sorted(workspace.done.glob("dt=*/*")):
            _move(path, workspace.spool)
    report = ingest(workspace)
    if aside is not None:
        _take_over(workspace, aside)
    return report, aside


def _take_over(workspace: Workspace, aside: Path) -> None:
    quoted = str(aside).replace("'", "''")
    with writer(workspace) as connection:
        try:
            connection.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
        except duckdb.Error as error:
            raise StorageError(
                f"the runs are in the new store, but {aside} cannot be read: {str(error).splitlines()[0]}",
                remedy="accept a baseline again, and `enginewatch judge --again`",
            ) from error
        connection.execute("BEGIN")
        known = connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'").fetchall()
        for table in [name for name in CONCLUSIONS if (name,) in known]:
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM old.{table}")  # noqa: S608
        connection.execute("COMMIT")
        connection.execute("DETACH old")


def _set_half_bundles_aside(
    workspace: Workspace, connection: duckdb.DuckDBPyConnection, quarantined: dict[str, str]
) -> None:
    for path in workspace.spool.glob(f"{TEMPORARY_PREFIX}*"):
        owner = path.name.removeprefix(TEMPORARY_PREFIX).split("-", 1)[0]
        if owner.isdigit() and Path(f"/proc/{owner}").exists():
            continue
        _quarantine(workspace, connection, path, "half a bundle: its writer died before it was complete", quarantined)


def _quarantine(
    workspace: Workspace,
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    reason: str,
    quarantined: dict[str, str],
) -> None:
    name = path.name.lstrip(".")
    _move(path, workspace.quarantine, name)
    (workspace.quarantine / name / "reason.txt").write_text(reason + "\n", encoding="utf-8")
    connection.execute("INSERT INTO quarantine VALUES (?, ?, now())", [name, reason])
    quarantined[name] = reason


def _move(path: Path, folder: Path, name: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (name or path.name)
    if target.exists():
        shutil.rmtree(target)
    if path.is_dir():
        path.rename(target)
    else:
        target.mkdir()
        path.rename(target / path.name)


def insert(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> bool:
    """Insert one bundle in one transaction; return ``False`` when the run is in the store already."""
    record = bundle.record
    connection.execute("BEGIN")
    try:
        if connection.execute("SELECT 1 FROM ingest_ledger WHERE run_id = ?", [record.run_id]).fetchone():
            connection.execute("ROLLBACK")
            return False
        dropped = [column for name in bundle.tables for column in _copy_table(connection, bundle, name)]
        _insert_dimensions(connection, record)
        _insert_run(connection, record)
        _insert_one(
            connection,
            "ingest_ledger",
            run_id=record.run_id,
            bundle_name=bundle.path.name,
            bundle_schema=BUNDLE_SCHEMA,
            sha256=bundle.sha256,
            size_bytes=bundle.size_bytes,
            dropped_columns=dropped,
            ingested_at=datetime.now(UTC),
        )
        connection.execute("COMMIT")
    except BaseException:  # raised again: whatever ends the transaction, Ctrl-C included, leaves nothing of it
        _rollback(connection)
        raise
    return True


def _rollback(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        # A failed commit (disk full) has rolled back by itself, and says so by refusing this one.
        return


def _copy_table(connection: duckdb.DuckDBPyConnection, bundle: Bundle, name: str) -> list[str]:
    """Copy one Parquet file; return the columns that a newer writer added and this store does not know."""
    if name not in SCHEMAS:
        return [f"{name}.*"]
    path = str(bundle.tables[name])
    present = [row[0] for row in connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()]
    shared = [column for column in present if column in SCHEMAS[name].names]
    quoted = ", ".join(f'"{column}"' for column in shared)
    connection.execute(
        f"INSERT INTO {name} BY NAME SELECT ?::UUID AS run_id, {quoted} FROM read_parquet(?)",  # noqa: S608
        [bundle.record.run_id, path],
    )
    return [f"{name}.{column}" for column in present if column not in shared]


DIMENSIONS = frozenset({"series", "environments", "hosts", "sessions", "engines"})
"""Tables whose rows many runs share: the first run that names one writes it."""


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[Json]) -> None:
    """Insert rows that have the same keys, in one statement."""
    if not rows:
        return
    names = ", ".join(rows[0])
    marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in rows)
    values = [json.dumps(value) if isinstance(value, dict) else value for row in rows for value in row.values()]
    conflict = " ON CONFLICT DO NOTHING" if table in DIMENSIONS else ""
    connection.execute(f"INSERT INTO {table} ({names}) VALUES {marks}{conflict}", values)  # noqa: S608


def _insert_one(connection: duckdb.DuckDBPyConnection, table: str, **values: Any) -> None:  # noqa: ANN401 (SQL values)
    _insert(connection, table, [values])


def _insert_dimensions(connection: duckdb.DuckDBPyConnection, record: RunRecord) -> None:
    identity = record.identity
    first_shape = next(iter(identity.shapes.values()), None)
    _insert_one(
        connection,
        "series",
        series_id=ids.series_id(identity),
        scenario_id=ids.scenario_id(identity),
        identity_version=IDENTITY_VERSION,
        case_key=record.case_key,
        workload=identity.workload,
        model=identity.model,
        backend=identity.backend,
        precision=identity.precision,
        device=identity.device,
        device_count=identity.device_count,
        batch=first_shape[0] if first_shape else None,
        concurrency=identity.load.get("concurrency"),
        load_mode=identity.load.get("mode"),
        identity=asdict(identity),
    )
    _insert_one(
        connection, "environments", env_id=ids.environment_id(record.environment), facets=dict(record.environment)
    )
    _insert_one(
        connection,
        "hosts",
        host_id=_host_id(record),
        hostname=str(record.host.get("hostname", "unknown")),
        details=dict(record.host),
    )
    _insert_session(connection, record)
    if record.engine is not None:
        engine = asdict(record.engine)
        del engine["cached"]
        _insert_one(connection, "engines", **engine, first_run_id=record.run_id)
        if record.engine.build_time_s is not None:
            connection.execute(
                "UPDATE engines SET build_time_s = ? WHERE engine_sha256 = ? AND build_time_s IS NULL",
                [record.engine.build_time_s, record.engine.engine_sha256],
            )


def _insert_session(connection: duckdb.DuckDBPyConnection, record: RunRecord) -> None:
    session = record.session
    _insert_one(
        connection,
        "sessions",
        session_id=record.session_id,
        plan_name=record.plan_name,
        plan_sha256=session.get("plan_sha256"),
        label=session.get("label"),
        started_at=session.get("started_at", record.started_at),
        seed=session.get("seed"),
        repeats=session.get("repeats"),
        host_id=_host_id(record),
        env_id=ids.environment_id(record.environment),
        git_commit=session.get("git_commit"),
        git_branch=session.get("git_branch"),
        git_dirty=session.get("git_dirty"),
        trigger=session.get("trigger"),
        details=dict(session),
    )


def _host_id(record: RunRecord) -> str:
    return ids.content_id({"hostname": str(record.host.get("hostname", "unknown"))}, "host/v1")


def _insert_run(connection: duckdb.DuckDBPyConnection, record: RunRecord) -> None:
    run_id = record.run_id
    failure = record.failure
    _insert_one(
        connection,
        "runs",
        run_id=run_id,
        session_id=record.session_id,
        series_id=ids.series_id(record.identity),
        env_id=ids.environment_id(record.environment),
        host_id=_host_id(record),
        engine_sha256=record.engine.engine_sha256 if record.engine else None,
        engine_cached=record.engine.cached if record.engine else None,
        build_number=record.engine.build_number if record.engine else None,
        plan_name=record.plan_name,
        case_key=record.case_key,
        repeat=record.repeat,
        order_idx=record.order_idx,
        status=record.status,
        valid=record.valid,
        reason_codes=[reason.code for reason in record.reasons],
        failure_code=failure.code if failure else None,
        failure_message=failure.message if failure else None,
        failure_remedy=failure.remedy if failure else None,
        started_at=record.started_at,
        ended_at=record.ended_at,
        realised_precision=record.realised_precision,
        quality=dict(record.quality),
        devices=json.dumps(list(record.devices)),
        provenance=dict(record.provenance),
        stage_s=dict(record.stage_s),
        device_uuid=record.device_uuid,
    )
    _insert(
        connection,
        "run_reasons",
        [
            {"run_id": run_id, "code": reason.code, "effect": reason.effect, "detail": reason.detail}
            for reason in record.reasons
        ],
    )
    _insert(
        connection,
        "run_phases",
        [
            {
                "run_id": run_id,
                "phase": mark.name,
                "start_ns": mark.start_ns - record.t0_ns,
                "end_ns": mark.end_ns - record.t0_ns,
            }
            for mark in record.phases
        ],
    )
    _insert(connection, "run_metrics", [{"run_id": run_id, **asdict(metric)} for metric in record.metrics])


def pending(workspace: Workspace) -> int:
    """Return how many finished bundles wait in the spool."""
    if not workspace.spool.is_dir():
        return 0
    return sum(1 for entry in workspace.spool.iterdir() if not entry.name.startswith("."))
