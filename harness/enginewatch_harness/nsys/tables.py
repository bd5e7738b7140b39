"""An exported report as tables that may lack columns, or be absent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from enginewatch_db.errors import MeasurementError

_META = ("META_DATA_CAPTURE", "META_DATA_EXPORT", "EXPORT_META_DATA")
_VERSION_NAMES = ("EXPORT_PRODUCT_VERSION", "PRODUCT_VERSION", "EXPORT_TOOL_VERSION")
_SCHEMA_NAMES = ("EXPORT_SCHEMA_VERSION", "SCHEMA_VERSION")
_TEXT = frozenset({"name", "value", "label", "text", "filename"})
"""Columns of texts; a name may be the number of one. All others hold whole numbers."""


class Tables:
    """Access to an export by names of tables and columns that are checked first."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @cached_property
    def names(self) -> frozenset[str]:
        """Tables and views that the file has."""
        found = self.connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        return frozenset(str(name) for (name,) in found)

    def columns(self, table: str) -> tuple[str, ...]:
        """Return a table's columns; empty where there is no such table."""
        if table not in self.names:
            return ()
        return tuple(row[1] for row in self.connection.execute(f"PRAGMA table_info({quoted(table)})"))

    def count(self, table: str) -> int:
        """Return the number of rows; 0 where there is no such table."""
        if table not in self.names:
            return 0
        found: tuple[int] = self.connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()  # noqa: S608
        return found[0]

    def rows(self, table: str, wanted: Sequence[str], *, needed: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the wanted columns of every row, ``None`` for a column that this version does not have.

        Args:
            table: Its name; an absent table has no rows.
            wanted: Names of columns.
            needed: Columns without which the table says nothing, so that it counts as absent.

        Raises:
            MeasurementError: ``results_damaged``: a column of numbers holds something else; SQLite itself allows it.
        """
        have = set(self.columns(table))
        if not have or not have.issuperset(needed):
            return
        listed = ", ".join(quoted(name) if name in have else "NULL" for name in wanted)
        kinds = [(name, _text if name in _TEXT else _whole) for name in wanted]
        for row in self.connection.execute(f"SELECT {listed} FROM {quoted(table)}"):  # noqa: S608 - names are quoted
            yield tuple(
                value if value is None or type(value) is int else read(table, name, value)
                for (name, read), value in zip(kinds, row, strict=True)
            )

    @cached_property
    def strings(self) -> dict[int, str]:
        """The strings that other tables name by number."""
        return {key: str(value) for key, value in self.rows("StringIds", ("id", "value"), needed=("id", "value"))}

    def text(self, key: int | None) -> str | None:
        """Return a string by its number."""
        return None if key is None else self.strings.get(key)

    def metadata(self) -> dict[str, str]:
        """Return ``version`` (of nsys) and ``schema``, where the file tells; nothing else of its metadata."""
        told: dict[str, str] = {}
        for table in _META:
            for name, value in self.rows(table, ("name", "value"), needed=("name", "value")):
                if value is not None:
                    told.setdefault(str(name).upper(), str(value))
        found = {"version": _first(told, _VERSION_NAMES), "schema": _first(told, _SCHEMA_NAMES)}
        if found["schema"] is None and "EXPORT_SCHEMA_VERSION_MAJOR" in told:
            parts = (told.get(f"EXPORT_SCHEMA_VERSION_{part}") for part in ("MAJOR", "MINOR", "MICRO"))
            found["schema"] = ".".join(part for part in parts if part is not None)
        return {name: value for name, value in found.items() if value is not None}

    def labels(self, table: str) -> dict[int, str]:
        """Return an ``ENUM_`` table as number → label, or name where it has none."""
        rows = self.rows(table, ("id", "name", "label"), needed=("id",))
        return {key: str(label or name or "") for key, name, label in rows}


def _whole(table: str, column: str, value: float | str | bytes) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise damaged(f"{table}.{column} holds {value!r:.60} where nsys writes a whole number")


def _text(_table: str, _column: str, value: float | str | bytes) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def damaged(why: str) -> MeasurementError:
    """Return the error for a file that is SQLite, but not as nsys writes it."""
    return MeasurementError(
        f"the report is damaged: {why}",
        code="results_damaged",
        remedy="export it again: nsys export --type=sqlite FILE.nsys-rep",
    )


def _first(told: dict[str, str], names: Sequence[str]) -> str | None:
    return next((told[name] for name in names if name in told), None)


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
