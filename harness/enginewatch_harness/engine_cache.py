"""The engine cache: content-addressed, verified when used, safe against two builders and a kill."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from enginewatch_db import ids
from enginewatch_db.model import EngineRecord, Json
from enginewatch_db.workspace import Workspace

ENGINE = "engine"
META = "engine.json"
_RECORD = TypeAdapter(EngineRecord)
BUILD_WAIT_S = 3600.0


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def engine_key(
    *, model_sha256: str, backend: str, version: str | None, device: str | None, precision: str, options: Json
) -> str:
    """Return the key of an engine: everything that makes it another artefact or ties it to a machine."""
    parts = {
        "model": model_sha256,
        "backend": backend,
        "version": version,
        "device": device,
        "precision": precision,
        "options": {name: str(value) if isinstance(value, float) else value for name, value in options.items()},
    }
    return ids.content_id(parts, "engine/v1")


def lookup(workspace: Workspace, key: str) -> tuple[EngineRecord, Path] | None:
    """Return a cached engine whose file is whole; one that was cut or altered is removed."""
    folder = workspace.engines / key
    meta, path = folder / META, folder / ENGINE
    if not meta.is_file():
        return None
    try:
        record: EngineRecord = _RECORD.validate_json(meta.read_bytes())
        whole = (
            path.is_file() and path.stat().st_size == record.size_bytes and file_sha256(path) == record.engine_sha256
        )
    except (ValidationError, OSError):
        whole = False
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return replace(record, cached=True, build_time_s=None), path


def obtain(workspace: Workspace, key: str, build: Callable[[Path], EngineRecord]) -> tuple[EngineRecord, Path]:
    """Return the engine for ``key``, from the cache or by calling ``build`` with the path to build into.

    One builder a key: a second process waits for the first and then finds the engine.

    Raises:
        BackendError: ``build`` failed; nothing stays in the cache.
    """
    with workspace.lock(f"engines/{key}", wait_s=BUILD_WAIT_S, busy="another process builds this engine"):
        found = lookup(workspace, key)
        if found is not None:
            return found
        temporary = workspace.engines / f".tmp-{os.getpid()}-{key}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            record = replace(build(temporary / ENGINE), engine_key=key, path=f"engines/{key}/{ENGINE}", cached=False)
            (temporary / META).write_bytes(_RECORD.dump_json(record))
            shutil.rmtree(workspace.engines / key, ignore_errors=True)
            temporary.rename(workspace.engines / key)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return record, workspace.engines / key / ENGINE
