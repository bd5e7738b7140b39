"""The dashboard's only door to the store: named queries, cached by what was asked and by the store's version.

A published copy never changes, so nothing expires: when something was ingested there is a new version, and with it
new keys. Results are shared between visitors and must not be altered.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError
from enginewatch_db.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
"""One row of a query: column → value. The shape is stated by the query's SQL."""

KEPT_READERS = 3
"""Versions whose reader stays open: a page that began before an ingest may still ask for the older one."""
MAX_CACHE = "256MB"
MAX_SESSIONS = 500
"""Sessions in pickers and trends; older ones are reachable by SQL."""
CONSOLE_ROWS = 10_000
CONSOLE_TIMEOUT_S = 30.0


class Readers:
    """Open readers by version, one each: DuckDB shares a file's settings within a process, and they are locked."""

    def __init__(self) -> None:
        self._open: dict[Path, Reader] = {}
        self._lock = threading.Lock()

    def get(self, workspace: Workspace) -> Reader:
        """Return the reader of the newest published copy.

        Raises:
            StorageError: There is no store, or it cannot be read.
        """
        with self._lock:
            version = workspace.read_copy.resolve()
            if version not in self._open:
                reader = Reader.open(workspace)
                self._open[reader.version] = reader
                version = reader.version
                self._close_older(workspace)
            return self._open[version]

    def find(self, version: str) -> Reader:
        """Return the open reader of a version.

        Raises:
            StorageError: It was closed since, because the store moved on.
        """
        with self._lock:
            if (found := self._open.get(Path(version))) is None:
                raise StorageError("this version of the store was replaced", remedy="reload the page")
            return found

    def _close_older(self, workspace: Workspace) -> None:
        mine = [version for version in self._open if version.parent == workspace.read_versions.resolve()]
        for version in mine[:-KEPT_READERS]:
            self._open.pop(version).close()


READERS = Readers()


@st.cache_data(show_spinner=False, max_size=MAX_CACHE)
def _rows(version: str, name: str, parameters: dict[str, Any]) -> list[Row]:
    rows: list[Row] = READERS.find(version).table(name, **parameters).to_pylist()
    return rows


@st.cache_data(show_spinner=False, max_size=MAX_CACHE)
def _columns(version: str, name: str, parameters: dict[str, Any]) -> dict[str, NDArray[Any]]:
    table = READERS.find(version).table(name, **parameters)
    return {column: table.column(column).to_numpy() for column in table.column_names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One version of the store, as pages see it.

    Attributes:
        workspace: Where it lies.
        version: The published copy that every query of this page asks.
    """

    workspace: Workspace
    version: str

    def rows(self, name: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 (SQL values)
        """Return the rows of ``queries/dash_<name>.sql``."""
        return _rows(self.version, f"dash_{name}", parameters)

    def shared(self, name: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 (SQL values)
        """Return the rows of ``queries/<name>.sql``, which commands ask too."""
        return _rows(self.version, name, parameters)

    def row(self, name: str, **parameters: Any) -> Row | None:  # noqa: ANN401 (SQL values)
        """Return the first row of ``queries/dash_<name>.sql``, or ``None``."""
        found = self.rows(name, **parameters)
        return found[0] if found else None

    def columns(self, name: str, **parameters: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401 (SQL values)
        """Return the columns of ``queries/dash_<name>.sql`` as arrays: for charts."""
        return _columns(self.version, f"dash_{name}", parameters)

    def console(self, sql: str) -> pa.Table:
        """Run what a user typed, read-only, cut at ``CONSOLE_ROWS`` rows and ``CONSOLE_TIMEOUT_S`` seconds.

        Raises:
            UsageError: DuckDB refused it, or it took too long.
        """
        return READERS.find(self.version).console(sql, max_rows=CONSOLE_ROWS, timeout_s=CONSOLE_TIMEOUT_S)


def open_store() -> Store:
    """Return the newest version of the store that the dashboard was started with.

    Raises:
        StorageError: There is no store yet, or it cannot be read.
    """
    workspace = Workspace.locate()
    return Store(workspace=workspace, version=str(READERS.get(workspace).version))


def is_outdated(store: Store) -> bool:
    """Return whether something was published since this page was drawn."""
    return str(store.workspace.read_copy.resolve()) != store.version


def as_json(text: str | None) -> dict[str, Any]:
    """Return a JSON object from a text column; empty where there is none."""
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {"value": found}


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return floats without what is not a number."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
