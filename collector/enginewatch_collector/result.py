"""What a collector left behind: its journal, turned into a table, Parquet and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from enginewatch_collector.config import JOURNAL_FILE, LOG_FILE, QUALITY_FILE, TABLE_FILE
from enginewatch_collector.journal import read_journal
from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorResult:
    """What a collector brought.

    Attributes:
        table: Columns of ``enginewatch_db.tables.TELEMETRY``; ``t_ns`` is the absolute monotonic clock.
        quality: What it knows about its own work; ``ended_early`` says that it did not end by itself.
        devices: Facts of each device.
    """

    table: pa.Table
    quality: Json
    devices: tuple[Json, ...]


def finalise(out_dir: Path, *, exit_code: int | None = None) -> CollectorResult:
    """Return what a collector left in ``out_dir``; turn its journal into Parquet and JSON if that is still to do.

    Args:
        out_dir: Its folder.
        exit_code: How it ended, for the quality block and the message.

    Raises:
        BackendError: There is nothing readable (code ``collector_failed``).
    """
    import pyarrow as pa

    try:
        if not (out_dir / JOURNAL_FILE).exists():
            return _read_files(out_dir)
        result = _read_journal(out_dir, exit_code)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise BackendError(
            f"the collector (exit code {exit_code}) left nothing readable in {out_dir}: {error}",
            code="collector_failed",
            remedy=f"read {out_dir / LOG_FILE}",
        ) from error
    try:
        _write_files(out_dir, result)
    except OSError as error:
        # the caller has the table in memory; the journal stays for another try
        result.quality["events"].append({"kind": "files_not_written", "why": str(error)})
    return result


def _read_files(out_dir: Path) -> CollectorResult:
    import pyarrow.parquet as pq

    facts = json.loads((out_dir / QUALITY_FILE).read_text(encoding="utf-8"))
    table = pq.read_table(out_dir / TABLE_FILE)
    return CollectorResult(table=table, quality=facts["quality"], devices=tuple(facts["devices"]))


def _read_journal(out_dir: Path, exit_code: int | None) -> CollectorResult:
    content = read_journal(out_dir / JOURNAL_FILE)
    quality: Json = {"events": [], "errors": {}, "ended_early": True} | (content.quality or {})
    if quality["ended_early"]:
        quality["events"].append({"kind": "collector_ended_early", "exit_code": exit_code})
    return CollectorResult(table=content.buffer.to_table(), quality=quality, devices=content.devices)


def _write_files(out_dir: Path, result: CollectorResult) -> None:
    import pyarrow.parquet as pq

    with _Replacing(out_dir / TABLE_FILE) as partial:
        pq.write_table(result.table, partial)
    with _Replacing(out_dir / QUALITY_FILE) as partial:
        partial.write_text(json.dumps({"quality": result.quality, "devices": result.devices}), encoding="utf-8")
    (out_dir / JOURNAL_FILE).unlink()


class _Replacing:
    """Gives a temporary name to write to, and renames it when that went well."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(f".{target.name}.partial")

    def __enter__(self) -> Path:
        return self._partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._partial.replace(self._target)
        else:
            self._partial.unlink(missing_ok=True)
