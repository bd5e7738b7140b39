"""What travels between the harness and its worker process: a job in, events and a result out. JSON and Parquet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Failure
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Job, Measurement

if TYPE_CHECKING:
    import pyarrow as pa

JOB = "job.json"
EVENTS = "events.jsonl"
RESULT = "result.json"

LOOK_S = 60.0
"""How long looking inside may take at least, however little of ``timeout_s`` the measurement has left."""

NOT_YET = "not done yet"
"""Why metrics of what comes after the measurement are absent from an early result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """What a worker is to do.

    Attributes:
        action: ``build`` or ``measure``.
        backend: Name of the backend.
        job: The case.
        engine: The engine to measure; ``None`` where the backend has none.
        engine_path: Where the engine lies, or is to be built.
        profile: Look inside after measuring.
        accuracy: Compare the outputs with the fp32 reference's after measuring.
        no_accuracy: Why not, in words, where ``accuracy`` is false.
        cache_dir: Folder for what is addressed by its hash; see ``Context``.
        timeout_s: When the worker is stopped, from its start; ``None``: unknown. What follows the measurement has
            ``LOOK_S`` at least.
    """

    action: str
    backend: str
    job: Job
    engine: EngineRecord | None = None
    engine_path: Path | None = None
    profile: bool = False
    accuracy: bool = False
    no_accuracy: str = "not asked for"
    cache_dir: Path | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResult:
    """What a worker brought back: exactly one of ``engine``, ``measurement`` and ``failure`` is set.

    Attributes:
        engine: What a build order made.
        measurement: What a measure order found.
        failure: Why there is neither.
        sentinel_ns: Times of the control.
        early: The worker still had to look inside when it wrote this.
    """

    engine: EngineRecord | None = None
    measurement: Measurement | None = None
    failure: Failure | None = None
    sentinel_ns: tuple[int, ...] = ()
    early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """A measurement without its tables: what goes into JSON."""

    window_ns: tuple[int, int]
    metrics: tuple[MetricValue, ...]
    reasons: tuple[Reason, ...]
    realised_precision: str | None
    effective_options: dict[str, Any]
    versions: dict[str, str]
    command: str | None
    counts: dict[str, float]
    notes: tuple[str, ...]
    device: str | None
    device_count: int | None
    own_pids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """The content of ``result.json``; ``edition`` counts how often it was written."""

    engine: EngineRecord | None
    failure: Failure | None
    sentinel_ns: tuple[int, ...]
    facts: _Facts | None
    tables: tuple[str, ...]
    early: bool
    edition: int

    def table_path(self, folder: Path, name: str) -> Path:
        """Return where a table of this edition lies."""
        return folder / f"{name}.{self.edition}.parquet"


_ORDER = TypeAdapter(WorkOrder)
_DOCUMENT = TypeAdapter(_Document)


def _shared(source: Measurement | _Facts) -> dict[str, Any]:
    return {item.name: getattr(source, item.name) for item in fields(_Facts)}


def write_order(folder: Path, order: WorkOrder) -> None:
    """Write the job into the worker's folder."""
    (folder / JOB).write_bytes(_ORDER.dump_json(order))


def read_order(folder: Path) -> WorkOrder:
    """Read the job that ``write_order`` wrote."""
    order: WorkOrder = _ORDER.validate_json((folder / JOB).read_bytes())
    return order


def write_result(folder: Path, result: WorkResult) -> None:
    """Write the result, in place of an earlier one: Parquet beside a JSON file that is renamed into place last.

    The tables of each edition have names of their own, so whoever is killed in between leaves the earlier one whole.
    """
    import pyarrow.parquet as pq

    measurement = result.measurement
    tables: dict[str, pa.Table] = measurement.tables if measurement else {}
    before = _document(folder)
    document = _Document(
        engine=result.engine,
        failure=result.failure,
        sentinel_ns=result.sentinel_ns,
        facts=_Facts(**_shared(measurement)) if measurement else None,
        tables=tuple(sorted(tables)),
        early=result.early,
        edition=before.edition + 1 if before else 1,
    )
    for name, table in tables.items():
        pq.write_table(table, document.table_path(folder, name), compression="zstd")
    temporary = folder / f"{RESULT}.tmp"
    temporary.write_bytes(_DOCUMENT.dump_json(document))
    temporary.rename(folder / RESULT)
    if before is not None:
        for name in before.tables:
            before.table_path(folder, name).unlink(missing_ok=True)


def discard_result(folder: Path) -> None:
    """Remove the result and every table, whole or not."""
    # First what names the tables: without it there is no result, whatever is left of them.
    (folder / RESULT).unlink(missing_ok=True)
    for table in folder.glob("*.parquet"):
        table.unlink()


def read_result(folder: Path) -> WorkResult | None:
    """Read the result, or return ``None`` when the worker ended without one."""
    import pyarrow.parquet as pq

    document = _document(folder)
    if document is None:
        return None
    measurement = None
    if document.facts is not None:
        tables = {name: pq.read_table(document.table_path(folder, name)) for name in document.tables}
        measurement = Measurement(tables=tables, **_shared(document.facts))
    return WorkResult(
        engine=document.engine,
        measurement=measurement,
        failure=document.failure,
        sentinel_ns=document.sentinel_ns,
        early=document.early,
    )


def _document(folder: Path) -> _Document | None:
    try:
        text = (folder / RESULT).read_bytes()
    except FileNotFoundError:
        return None
    document: _Document = _DOCUMENT.validate_json(text)
    return document
