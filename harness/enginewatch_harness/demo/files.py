"""The recordings inside the package."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

DATA = "enginewatch_harness.demo"


def _folder() -> Traversable:
    return resources.files(DATA).joinpath("data")


def read_bytes(name: str) -> bytes:
    """Return a file, unpacked where its name ends in ``.gz``."""
    raw = _folder().joinpath(*name.split("/")).read_bytes()
    return gzip.decompress(raw) if name.endswith(".gz") else raw


def read_text(name: str) -> str:
    """Return a text file; tools do not always write UTF-8."""
    return read_bytes(name).decode("utf-8", errors="replace")


def read_json(name: str) -> Any:  # noqa: ANN401 (any JSON value)
    """Return a JSON file."""
    return json.loads(read_bytes(name))


def read_table(name: str) -> pa.Table:
    """Return a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(read_bytes(name)))


def read_telemetry(name: str) -> pa.Table:
    """Return a telemetry recording with all columns; ``t_ns`` is the wall clock, ``phase`` the name of the run."""
    from enginewatch_db.tables import conform

    return conform("telemetry", read_table(f"telemetry/{name}.parquet"))


@cache
def fingerprint(*names: str) -> str:
    """Return the SHA-256 of some files, packed as they are; of all recordings when none is named."""
    digest = hashlib.sha256()
    for name in names or sorted(_names(_folder(), "")):
        digest.update(name.encode() + b"\0" + _folder().joinpath(*name.split("/")).read_bytes())
    return digest.hexdigest()


def _names(folder: Traversable, prefix: str) -> list[str]:
    found = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _names(entry, f"{name}/")
        elif not name.endswith(".md"):
            found.append(name)
    return found
