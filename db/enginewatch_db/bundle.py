"""The run bundle: a folder of ``run.json`` and Parquet files that is complete or absent.

It is written under a temporary name, flushed to the disk, and renamed; whatever happens afterwards, what was
measured is safe. ``run.json`` lists every file with its SHA-256, so a half or altered bundle is found.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from enginewatch_db.errors import BundleError, DiskFullError, StorageError
from enginewatch_db.model import BUNDLE_SCHEMA, Json, RunRecord

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "run.json"
TEMPORARY_PREFIX = ".tmp-"
MIN_FREE_MIB = 64
_RECORD = TypeAdapter(RunRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was read and verified.

    Attributes:
        path: Its folder.
        record: The run.
        tables: Table name → Parquet file.
        sha256: Hash of the manifest, which holds the hashes of the rest.
        size_bytes: Size of all files.
    """

    path: Path
    record: RunRecord
    tables: dict[str, Path]
    sha256: str
    size_bytes: int


def record_to_json(record: RunRecord) -> Json:
    """Return ``record`` as JSON."""
    dumped: Json = _RECORD.dump_python(record, mode="json")
    return dumped


def free_mib(path: Path) -> float:
    """Return the free space of the disk that holds ``path`` or its nearest existing parent, in MiB."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free / 2**20


def write(spool: Path, record: RunRecord, tables: dict[str, pa.Table]) -> Path:
    """Write a bundle into ``spool`` and return its folder, named after the run.

    Raises:
        DiskFullError: No space was left; nothing of this bundle stays behind.
        StorageError: The folder cannot be written.
        ValueError: A table has columns that ``enginewatch_db.tables`` does not declare.
    """
    final = spool / record.run_id
    temporary = spool / f"{TEMPORARY_PREFIX}{os.getpid()}-{record.run_id}"
    try:
        spool.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        files = {f"{name}.parquet": _write_table(temporary, name, table) for name, table in tables.items()}
        manifest = {"bundle_schema": BUNDLE_SCHEMA, "run": record_to_json(record), "files": files}
        _write_synced(temporary / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        _sync_folder(temporary)
        temporary.rename(final)
        _sync_folder(spool)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left while writing run {record.run_id} ({record.case_key}) into {spool}: "
                f"{free_mib(spool):.0f} MiB free",
                remedy="free some space, then `enginewatch run PLAN --resume`",
            ) from error
        raise StorageError(f"cannot write run {record.run_id} into {spool}: {error}") from error
    except BaseException:  # raised again: whatever ends the writing, Ctrl-C included, leaves no half bundle behind
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _write_table(folder: Path, name: str, table: pa.Table) -> Json:
    import pyarrow.parquet as pq

    from enginewatch_db.tables import conform

    path = folder / f"{name}.parquet"
    pq.write_table(conform(name, table), path, compression="zstd")
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return {"sha256": _sha256(path), "size_bytes": path.stat().st_size, "rows": table.num_rows}


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _manifest(path: Path) -> Json:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        version = int(manifest["bundle_schema"])
    except FileNotFoundError as error:
        raise BundleError(f"{path} is half a bundle: it has no {MANIFEST}", remedy="run that case again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} cannot be read: {error}", remedy="run that case again") from error
    if version > BUNDLE_SCHEMA:
        raise BundleError(
            f"{path} has bundle schema {version}, this enginewatch knows up to {BUNDLE_SCHEMA}",
            remedy="upgrade enginewatch, then move the folder from quarantine back to the spool",
        )
    return dict(manifest)


def _record(path: Path, manifest: Json) -> RunRecord:
    try:
        record: RunRecord = _RECORD.validate_python(manifest["run"])
    except (KeyError, ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BundleError(f"{path / MANIFEST} does not describe a run: {first}") from error
    return record


def read_record(path: Path) -> RunRecord:
    """Return the run of a bundle without checking its tables.

    Raises:
        BundleError: ``run.json`` is absent, unreadable or of a newer schema.
    """
    return _record(path, _manifest(path))


def read(path: Path) -> Bundle:
    """Return a bundle after checking every file against the manifest.

    Raises:
        BundleError: A file is absent, cut or altered, or the manifest is not one.
    """
    manifest = _manifest(path)
    record = _record(path, manifest)
    tables = {}
    size = (path / MANIFEST).stat().st_size
    for name, sha256 in _listed_files(path, manifest).items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{path} is half a bundle: {name} is absent", remedy="run that case again")
        if _sha256(file) != sha256:
            raise BundleError(f"{file} was cut or altered: its checksum differs", remedy="run that case again")
        tables[name.removesuffix(".parquet")] = file
        size += file.stat().st_size
    return Bundle(path=path, record=record, tables=tables, sha256=_sha256(path / MANIFEST), size_bytes=size)


def _listed_files(path: Path, manifest: Json) -> dict[str, str]:
    try:
        return {str(name): str(facts["sha256"]) for name, facts in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path / MANIFEST} does not list its files: {error}") from error
