"""The timing cache on disk: read before a build, merged and written after it, one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.backends.tensorrt_module import is_rtx, require
from enginewatch_harness.backends.tensorrt_options import TensorrtOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInUse:
    """A timing cache that a build works with.

    Attributes:
        path: The file.
        blob: What was in it before; empty: nothing.
        handle: TensorRT's own object.
        entries: Tactics that it knew before; ``None`` where this version does not tell.
        frozen: Whether the file stays as it is.
    """

    path: Path
    blob: bytes
    handle: Any
    entries: int | None
    frozen: bool


def attach(module: ModuleType, config: Any, options: TensorrtOptions) -> CacheInUse | None:  # noqa: ANN401
    """Give a builder the timing cache of the plan; ``None`` where there is none.

    TensorRT-RTX times nothing when it builds: its timing cache does nothing, and is not touched.

    Raises:
        BackendError: The file was written for another GPU or version, or cannot be read.
    """
    if options.timing_cache is None or is_rtx(module):
        return None
    path = Path(options.timing_cache).absolute()
    with _locked(path):
        blob = _read(path)
    handle = config.create_timing_cache(blob)
    if handle is None or not config.set_timing_cache(handle, ignore_mismatch=False):
        raise BackendError(
            f"the timing cache {path} was written for another GPU or another version of TensorRT",
            code="build_failed",
            remedy="give each GPU and version a file of its own, or delete it",
        )
    if options.strict_timing_cache:
        config.set_flag(require(module, "BuilderFlag", "ERROR_ON_TIMING_CACHE_MISS", "strict_timing_cache"))
    return CacheInUse(path=path, blob=blob, handle=handle, entries=_entries(handle), frozen=options.strict_timing_cache)


def keep(config: Any, cache: CacheInUse | None) -> Json | None:  # noqa: ANN401
    """Write what the build learned and return what is stored about it; tactics that were new are misses."""
    if cache is None:
        return None
    after = _entries(cache.handle)
    said: Json = {
        "path": cache.path.name,
        "entries_before": cache.entries,
        "misses": None if after is None or cache.entries is None else after - cache.entries,
        "frozen": cache.frozen,
    }
    if cache.frozen:
        return said
    with _locked(cache.path):
        now = _read(cache.path)
        if now and now != cache.blob:  # another build wrote it meanwhile: keep what both learned
            other = config.create_timing_cache(now)
            if other is not None:
                cache.handle.combine(other, ignore_mismatch=False)
        temporary = cache.path.with_name(f".{cache.path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(memoryview(cache.handle.serialize()))
        temporary.replace(cache.path)
    return said | {"bytes": cache.path.stat().st_size}


def _entries(handle: Any) -> int | None:  # noqa: ANN401
    keys = getattr(handle, "queryKeys", None)  # since 10.8 or so
    return None if keys is None else len(keys())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise BackendError(
            f"the timing cache {path} cannot be read: {error}", code="build_failed", remedy="correct timing_cache"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
