"""The only doors to DuckDB: one writer, and readers of the published copy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb

from enginewatch_db.errors import DiskFullError, StorageError, StoreLockedError, UsageError
from enginewatch_db.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

STORAGE_VERSION = "v1.5.0"
"""File format that DuckDB 1.5 and 2.0 both read."""

WRITER_WAIT_S = 60.0


@cache
def statement(name: str) -> str:
    """Return the SQL of ``queries/<name>.sql``."""
    return resources.files("enginewatch_db").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")


@cache
def _tuning() -> dict[str, str | bool | int | float | list[str]]:
    """Return the settings of every instance, as far as this DuckDB knows them."""
    with duckdb.connect(":memory:") as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM duckdb_settings()").fetchall()}
    # DuckDB 2.0 turns ASOF joins into nested loops below this estimate, which was seen to cost a factor of 100.
    wanted: dict[str, str | bool | int | float | list[str]] = {"asof_loop_join_threshold": "1"}
    return {name: value for name, value in wanted.items() if name in known}


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Fix the settings of a reader's instance; a second reader of the same copy finds them fixed already."""
    locked = connection.execute("SELECT current_setting('lock_configuration')").fetchone()
    if locked and locked[0]:
        return
    # Global, because every call takes a cursor of its own, which would start from the machine's time zone.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")


@contextmanager
def writer(workspace: Workspace, *, wait_s: float = WRITER_WAIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the store for writing, migrated to this version, and publish a read copy afterwards.

    The lock file makes the second writer wait; the database is closed (and so checkpointed) at the end.

    Raises:
        StoreLockedError: Another process wrote for longer than ``wait_s``.
        StoreVersionError: The store was written by a newer enginewatch.
        DiskFullError: No space was left; what was not committed is not in the store.
        StorageError: The file is not a store, or cannot be written.
    """
    from enginewatch_db.migrate import migrate
    from enginewatch_db.publish import publish

    workspace.create()
    with workspace.lock("ingest", wait_s=wait_s, busy="another enginewatch process writes to the store"):
        connection = _open_writer(workspace.store)
        try:
            migrate(connection, workspace.store)
            yield connection
        except duckdb.Error as error:
            raise _failed_write(workspace, error) from error
        finally:
            connection.close()
        publish(workspace)


def _failed_write(workspace: Workspace, error: duckdb.Error) -> StorageError:
    reason = str(error).splitlines()[0]
    if "No space left" in str(error):
        return DiskFullError(
            f"no space left while writing {workspace.store}: {reason}",
            remedy="free some space, then `enginewatch ingest`: the bundles are safe in the spool",
        )
    return StorageError(
        f"{workspace.store} cannot be written: {reason}",
        remedy="the bundles are safe; `enginewatch db rebuild` makes the store again",
    )


def _open_writer(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_tuning())
    try:
        quoted = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS store (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.execute("USE store")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
    except duckdb.Error as error:
        connection.close()
        if "lock" in str(error).lower():
            raise StoreLockedError(
                f"the store {path} is open in another program: {str(error).splitlines()[0]}",
                remedy="close it there; readers should open store.read.duckdb instead",
            ) from error
        raise StorageError(
            f"{path} cannot be opened as a store: {str(error).splitlines()[0]}",
            remedy="move it away and rebuild it with `enginewatch db rebuild`",
        ) from error
    return connection


class Reader:
    """A read-only view of the newest published copy: no file access, no settings, no writes.

    Use ``Reader.open(...)`` as a context manager. It is safe to share between threads: each call takes a cursor.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, version: Path) -> None:
        self._connection = connection
        self.version = version

    @classmethod
    def open(cls, workspace: Workspace | Path) -> Self:
        """Open the published copy.

        Raises:
            StorageError: There is no store yet, or it cannot be read.
        """
        place = workspace if isinstance(workspace, Workspace) else Workspace(Path(workspace).absolute())
        # Each published copy has a name of its own: DuckDB would hand out the instance of a path it has open.
        version = place.read_copy.resolve()
        if not version.is_file():
            raise StorageError(
                f"there is no store in {place.root}",
                remedy="measure with `enginewatch run PLAN`, or load recorded runs with `enginewatch demo`",
            )
        try:
            settings = {**_tuning(), "enable_external_access": "false"}
            connection = duckdb.connect(str(version), read_only=True, config=settings)
            _lock(connection)
        except duckdb.Error as error:
            raise StorageError(
                f"{version} cannot be read: {str(error).splitlines()[0]}",
                remedy="publish it again with `enginewatch ingest`",
            ) from error
        return cls(connection, version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def rows(self, name: str, **parameters: Any) -> list[dict[str, Any]]:  # noqa: ANN401 (SQL values)
        """Run the statement ``queries/<name>.sql`` and return its rows as dictionaries."""
        cursor = self._connection.cursor()
        result = cursor.execute(statement(name), parameters or None)
        columns = [column[0] for column in result.description or ()]
        return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]

    def table(self, name: str, **parameters: Any) -> pa.Table:  # noqa: ANN401 (SQL values)
        """Run the statement ``queries/<name>.sql`` and return its result as an Arrow table."""
        return self._connection.cursor().sql(statement(name), params=parameters or None).to_arrow_table()

    def console(self, sql: str, *, max_rows: int | None = None, timeout_s: float = 30.0) -> pa.Table:
        """Run SQL that a user typed and return the first ``max_rows`` rows.

        Raises:
            UsageError: DuckDB refused the statement, or it took longer than ``timeout_s``.
        """
        cursor = self._connection.cursor()
        timer = threading.Timer(timeout_s, cursor.interrupt)
        timer.start()
        try:
            result = cursor.sql(sql)
            if result is None:
                raise UsageError("the statement returned no table", remedy="write a SELECT")
            return (result if max_rows is None else result.limit(max_rows)).to_arrow_table()
        except duckdb.InterruptException as error:
            raise UsageError(f"the query took longer than {timeout_s:g} s", remedy="narrow it down") from error
        except duckdb.Error as error:
            raise UsageError(
                f"DuckDB refused the query: {str(error).strip()}",
                remedy="the store is read-only here; `enginewatch db schema` lists tables and views",
            ) from error
        finally:
            timer.cancel()
