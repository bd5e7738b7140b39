"""``enginewatch db``: query, export, describe and rebuild the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from enginewatch_db.connect import Reader
from enginewatch_db.errors import UsageError
from enginewatch_db.export import FORMATS, export_table, exportable, render
from enginewatch_db.ingest import ingest, pending
from enginewatch_db.ingest import rebuild as rebuild_store
from enginewatch_db.text_columns import fits, text_width
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import out, result, result_json, say

SEPARATOR = 3


@click.group()
def db() -> None:
    """Query, export, describe and rebuild the store."""


def open_reader(workspace: Workspace) -> Reader:
    """Open the store for reading, after taking in what waits in the spool."""
    if pending(workspace):
        ingest(workspace)
    return Reader.open(workspace)


@db.command()
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="A table that is wider than the window has a line a column instead of a line a row.",
)
@click.option("--max-rows", type=click.IntRange(1), default=1000, show_default=True, help="Rows printed at most.")
@store_option
def query(sql: str, form: str, max_rows: int, workspace: Workspace) -> None:
    """Run read-only SQL and print the rows.

    \b
    Example:
      enginewatch db query "SELECT session_id, case_key, metric, median(value) FROM v_metrics WHERE valid GROUP BY ALL"
    """
    with open_reader(workspace) as reader:
        table = reader.console(sql, max_rows=max_rows)
    if form != "table":
        result(render(table, form).rstrip("\n"))
        return
    names = table.column_names
    rows = [
        [_cell(value) for value in values]
        for values in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]
    columns = _columns(names, rows)
    if fits(columns, list(columns), out.width, separator=SEPARATOR):
        out.print(_table(names, rows))
    elif rows:
        result("\n".join(vertical(names, rows)))
    else:
        say("no rows")
    if table.num_rows == max_rows:
        say(f"only the first {max_rows} rows are shown; see --max-rows")


def _columns(names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    # By position, as two columns of a query may have one name.
    return {str(idx): [name, *(row[idx] for row in rows)] for idx, name in enumerate(names)}


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(show_edge=False, pad_edge=False)
    for name in names:
        shown.add_column(escape(name), no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def vertical(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows that are wider than the window: a line with each one's number, and below it a line a column."""
    widest = max(map(text_width, names), default=0)
    lines = []
    for number, row in enumerate(rows, start=1):
        lines.append(f"── {number} ──")
        for name, text in zip(names, row, strict=True):
            first, *more = text.split("\n")
            lines.append(f"{name}{' ' * (widest - text_width(name))}  {first}".rstrip())
            lines += [f"{' ' * widest}  {line}".rstrip() for line in more]
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@db.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default="parquet", show_default=True)
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Table or view; repeatable; default: all.")
@store_option
def export(folder: Path, form: str, tables: tuple[str, ...], workspace: Workspace) -> None:
    """Write tables and views into FOLDER, one file each.

    \b
    Example:
      enginewatch db export out --format csv --table v_runs --table v_metrics
    """
    with open_reader(workspace) as reader:
        known = exportable(reader)
        unknown = sorted(set(tables) - set(known))
        if unknown:
            raise UsageError(f"there is no table {unknown[0]!r}", remedy=f"known: {', '.join(known)}")
        for name in tables or known:
            path, rows = export_table(reader, name, folder, form)
            result(f"{path}: {rows} rows")


@db.command()
@store_option
@json_option
def schema(workspace: Workspace, *, as_json: bool) -> None:
    """List tables and views with their columns.

    \b
    Example:
      enginewatch db schema
    """
    with open_reader(workspace) as reader:
        rows = reader.rows("schema")
    if as_json:
        result_json(rows)
        return
    for row in rows:
        result(f"{row['name']}: {row['columns']}")


@db.command()
@store_option
def rebuild(workspace: Workspace) -> None:
    """Make the store again from the bundles; verdicts, findings and baselines are taken over from the old file.

    The old file is kept beside it.

    \b
    Example:
      enginewatch db rebuild
    """
    report, aside = rebuild_store(workspace)
    result(f"{len(report.ingested)} runs are in the new store")
    if aside is not None:
        say(f"the old file is {aside}")


@db.command()
@store_option
def path(workspace: Workspace) -> None:
    """Print the file that other programs may open read-only.

    \b
    Example:
      duckdb -readonly "$(enginewatch db path)"
    """
    open_reader(workspace).close()
    result(str(workspace.read_copy))
