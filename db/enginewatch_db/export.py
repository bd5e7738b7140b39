"""Export tables and views as Parquet, CSV or JSON lines."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("parquet", "csv", "json")


def exportable(reader: Reader) -> tuple[str, ...]:
    """Return the names of all tables and views."""
    return tuple(str(row["name"]) for row in reader.rows("schema"))


def export_table(reader: Reader, name: str, folder: Path, form: str) -> tuple[Path, int]:
    """Write one table into ``folder`` and return its file and the number of its rows.

    ``name`` must be one of ``exportable``; it is quoted as an identifier.

    Raises:
        StorageError: The file cannot be written.
    """
    quoted = name.replace('"', '""')
    table = reader.console(f'SELECT * FROM "{quoted}"', timeout_s=600.0)  # noqa: S608 (a checked, quoted identifier)
    path = folder / f"{name}.{form}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, path, compression="zstd")
        else:
            path.write_text(render(table, form), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", remedy="choose another folder") from error
    return path, table.num_rows


def render(table: pa.Table, form: str) -> str:
    """Return a table as CSV, or as JSON with one object a line. Lists and structs become JSON text in CSV."""
    if form == "json":
        return "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist())
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow(json.dumps(v, default=str) if isinstance(v, list | dict) else v for v in row.values())
    return buffer.getvalue()
