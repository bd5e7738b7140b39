"""Forward-only numbered migrations, each in a transaction of its own, then a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import duckdb

from enginewatch_db import __version__
from enginewatch_db.errors import StorageError, StoreVersionError
from enginewatch_db.metrics import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL: an applied migration must never be edited."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the migrations of this version, in order."""
    folder = resources.files("enginewatch_db").joinpath("schema")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(
        Migration(version=int(file.name[:4]), name=file.name, sql=file.read_text(encoding="utf-8")) for file in files
    )


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[int, str]:
    tables = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()"
    ).fetchall()
    names = {row[0] for row in tables}
    if not names:
        return {}
    if "schema_migrations" not in names:
        raise StorageError(
            f"the database holds tables of something else ({', '.join(sorted(names)[:3])}, ...)",
            remedy="choose another folder with --store",
        )
    return dict(connection.execute("SELECT version, checksum FROM schema_migrations").fetchall())


def migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Bring the store to this version and return how many migrations ran.

    Raises:
        StoreVersionError: The store is newer than this enginewatch.
        StorageError: An applied migration was edited, or one failed (and was rolled back).
    """
    applied = _applied(connection)
    known = migrations()
    if max(applied, default=0) > known[-1].version:
        raise StoreVersionError(
            f"the store {path} has schema {max(applied)}, "
            f"this enginewatch {__version__} knows up to {known[-1].version}",
            remedy="upgrade enginewatch, or choose another folder with --store",
        )
    ran = 0
    for migration in known:
        if migration.version in applied:
            if applied[migration.version] != migration.checksum:
                raise StorageError(f"{migration.name} was edited after it was applied to {path}")
            continue
        _apply(connection, migration)
        ran += 1
    if ran:
        _define_metrics(connection)
        connection.execute("CHECKPOINT store")
    return ran


def _apply(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute(migration.sql)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, now(), ?, ?)",
            [migration.version, migration.name, migration.checksum, __version__, duckdb.__version__],
        )
        connection.execute("COMMIT")
    except duckdb.Error as error:
        connection.execute("ROLLBACK")
        raise StorageError(f"migration {migration.name} failed and was rolled back: {error}") from error


def _define_metrics(connection: duckdb.DuckDBPyConnection) -> None:
    for metric in METRICS.values():
        connection.execute(
            "INSERT OR REPLACE INTO metric_defs VALUES (?, ?, ?, ?, ?, ?)",
            [metric.key, metric.unit, metric.direction, metric.kind, metric.gated, metric.description],
        )
