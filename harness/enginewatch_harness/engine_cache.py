"""The engine cache: content-addressed, verified when used, safe against two builders and a kill.

``engines/<key>`` is the first build of a key, ``engines/<key>.b1`` the second. A folder holds the engine (a file, or
a folder where the tool makes one), ``engine.json``, the build's logs, and the timing cache where there was one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from enginewatch_db import ids
from enginewatch_db.errors import DiskFullError, StorageError, StoreLockedError
from enginewatch_db.model import EngineRecord, Json
from enginewatch_db.workspace import Workspace

ENGINE = "engine"
META = "engine.json"
TIMING_CACHE = "timing.cache"
_RECORD = TypeAdapter(EngineRecord)
BUILD_WAIT_S = 3600.0
_TEMPORARY = ".tmp-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class State(StrEnum):
    """What lies in a folder of the cache."""

    OK = "ok"
    MISSING = "missing"
    ALTERED = "altered"
    UNREADABLE = "unreadable"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One folder of the cache.

    Attributes:
        folder: Where it lies.
        state: What is wrong with it, if anything: the engine is gone or not what was built, ``engine.json`` cannot be
            read, or the folder is what a killed builder left.
        record: What ``engine.json`` says; ``None`` where it cannot be read.
        size_bytes: All its files.
        why: The state in words; ``None`` where it is ``ok``.
    """

    folder: Path
    state: State
    record: EngineRecord | None
    size_bytes: int
    why: str | None = None

    @property
    def engine(self) -> Path:
        """The engine itself."""
        return self.folder / ENGINE


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the names and hashes of all its files."""
    if path.is_dir():
        found = hashlib.sha256()
        for item in sorted(entry for entry in path.rglob("*") if entry.is_file()):
            found.update(f"{file_sha256(item)}  {item.relative_to(path).as_posix()}\n".encode())
        return found.hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size


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


def folder_name(key: str, build_number: int = 0) -> str:
    """Return the name of the folder of one build: the first one's is the key alone, as before there were more."""
    return key if build_number == 0 else f"{key}.b{build_number}"


def was_built_here(workspace: Workspace, key: str, build_number: int = 0) -> bool:
    """Return whether a build was ever begun in this cache: its lock file stays."""
    return (workspace.engines / f"{folder_name(key, build_number)}.lock").is_file()


def read_entry(folder: Path, *, hashed: bool = True) -> Entry:
    """Look at one folder of the cache; ``hashed`` reads the whole engine, else its size has to do."""
    size = size_of(folder)
    meta, path = folder / META, folder / ENGINE
    if folder.name.startswith(_TEMPORARY) or not meta.is_file():
        why = "half a build: its builder died" if folder.name.startswith(_TEMPORARY) else f"it has no {META}"
        return Entry(folder=folder, state=State.ORPHAN, record=None, size_bytes=size, why=why)
    try:
        record: EngineRecord = _RECORD.validate_json(meta.read_bytes())
    except (ValidationError, OSError) as error:
        why = f"{META} cannot be read: {str(error).splitlines()[0]}"
        return Entry(folder=folder, state=State.UNREADABLE, record=None, size_bytes=size, why=why)
    state, why_not = _compare(path, record, hashed=hashed)
    return Entry(folder=folder, state=state, record=record, size_bytes=size, why=why_not)


def _compare(path: Path, record: EngineRecord, *, hashed: bool) -> tuple[State, str | None]:
    if not path.exists():
        return State.MISSING, "the engine file is gone"
    found = size_of(path)
    if found != record.size_bytes:
        return State.ALTERED, f"the engine has {found} bytes, {record.size_bytes} were built"
    if hashed and file_sha256(path) != record.engine_sha256:
        return State.ALTERED, f"the engine's checksum is not {record.engine_sha256[:16]}"
    return State.OK, None


def entries(workspace: Workspace, *, hashed: bool = True) -> tuple[Entry, ...]:
    """Return everything that lies in the cache; the folder of a builder that is at work is left out."""
    if not workspace.engines.is_dir():
        return ()
    folders = sorted(path for path in workspace.engines.iterdir() if path.is_dir() and not _at_work(path))
    return tuple(read_entry(path, hashed=hashed) for path in folders)


def _at_work(folder: Path) -> bool:
    owner = folder.name.removeprefix(_TEMPORARY).split("-", 1)[0]
    return folder.name.startswith(_TEMPORARY) and owner.isdigit() and Path(f"/proc/{owner}").exists()


def lookup(
    workspace: Workspace, key: str, build_number: int = 0, *, note: Callable[[str], None] | None = None
) -> tuple[EngineRecord, Path] | None:
    """Return a cached engine that is whole; one that was cut or altered is removed, and ``note`` told why."""
    folder = workspace.engines / folder_name(key, build_number)
    if not folder.is_dir():
        return None
    entry = read_entry(folder)
    if entry.state is not State.OK or entry.record is None:
        if note is not None:
            note(f"the cached engine {folder.name} is built again: {entry.why}")
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return replace(entry.record, cached=True, build_time_s=None), entry.engine


def obtain(
    workspace: Workspace,
    key: str,
    build: Callable[[Path], EngineRecord],
    *,
    build_number: int = 0,
    note: Callable[[str], None] | None = None,
) -> tuple[EngineRecord, Path]:
    """Return the engine for ``key``, from the cache or by calling ``build`` with the path to build into.

    One builder a build: a second process waits for the first and then finds the engine.

    Args:
        workspace: Where the cache is.
        key: See ``engine_key``.
        build: Builds into the path that it is given; what else it writes beside that is kept with the engine.
        build_number: Which of the builds of this key.
        note: Is told what a person should know: an engine that was found broken.

    Raises:
        BackendError: ``build`` failed; nothing stays in the cache.
        DiskFullError: No space left; nothing stays in the cache.
    """
    name = folder_name(key, build_number)
    with workspace.lock(f"engines/{name}", wait_s=BUILD_WAIT_S, busy="another process builds this engine"):
        found = lookup(workspace, key, build_number, note=note)
        if found is not None:
            return found
        # The lock is ours, so what lies here under this name is of a builder that was killed.
        for left in workspace.engines.glob(f"{_TEMPORARY}*-{name}"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = workspace.engines / f"{_TEMPORARY}{os.getpid()}-{name}"
        try:
            temporary.mkdir(parents=True)
            built = build(temporary / ENGINE)
            path = f"engines/{name}/{ENGINE}"
            record = replace(built, engine_key=key, path=path, cached=False, build_number=build_number)
            _write(temporary / META, _RECORD.dump_json(record))
            temporary.rename(workspace.engines / name)
        except OSError as error:
            raise _unwritable(error, workspace.engines / name) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return record, workspace.engines / name / ENGINE


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _unwritable(error: OSError, folder: Path) -> StorageError:
    if error.errno in _FULL:
        return DiskFullError(
            f"no space left while an engine was built into {folder}",
            remedy="free some space: `enginewatch engines prune --keep-last 1` says what the cache could give",
        )
    return StorageError(f"the engine cache {folder} cannot be written: {error.strerror}")


def remove(workspace: Workspace, folder: Path) -> bool:
    """Remove one folder of the cache; ``False`` where a builder has it. A kill on the way leaves an orphan, no half."""
    try:
        with workspace.lock(f"engines/{folder.name.rpartition(_TEMPORARY)[2]}", wait_s=0.0, busy="in use"):
            if not folder.is_dir():
                return False
            aside = folder
            if not folder.name.startswith(_TEMPORARY):
                aside = folder.with_name(f"{_TEMPORARY}{os.getpid()}-{folder.name}")
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            return True
    except StoreLockedError:
        return False


def keep_beside(target: Path, scratch: Path, timing_cache: Path | None) -> None:
    """Copy a build's logs, and its timing cache where there was one, beside the engine that is being built.

    Args:
        target: The engine; its folder goes into the cache as it is.
        scratch: The folder that the build worked in; its ``*.log`` files become ``build.*.log``.
        timing_cache: The tool's timing cache; ``None`` where it has none.
    """
    for log in sorted(scratch.glob("*.log")):
        if log.stat().st_size:
            shutil.copyfile(log, target.parent / f"build.{log.name}")
    kept = target.parent / TIMING_CACHE
    if timing_cache is not None and timing_cache.is_file() and not kept.exists():
        shutil.copyfile(timing_cache, kept)
