"""Tables and lists of facts about engines on a terminal: what fits, in the order of its importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.markup import escape
from rich.table import Table

from enginewatch_db.text_columns import fits, fitting, text_width
from enginewatch_harness.console import out, result

ABSENT = "–"
SEPARATOR = 3


def print_table(columns: Mapping[str, Sequence[str]], *, first_to_go: Sequence[str], right: Sequence[str] = ()) -> None:
    """Print a table; where the window is too narrow, columns are left out, then cells folded.

    Args:
        columns: Heading → cells.
        first_to_go: Columns to leave out, the least important first.
        right: Columns of numbers.
    """
    texts = {name: [name, *cells] for name, cells in columns.items()}
    chosen = fitting(texts, out.width, first_to_go=first_to_go, separator=SEPARATOR)
    whole = fits(texts, chosen, out.width, separator=SEPARATOR)
    shown = Table(show_edge=False, pad_edge=False)
    for name in chosen:
        shown.add_column(escape(name), no_wrap=whole, overflow="fold", justify="right" if name in right else "left")
    for cells in zip(*(columns[name] for name in chosen), strict=True):
        shown.add_row(*map(escape, cells))
    out.print(shown)


def print_facts(facts: Mapping[str, str | None]) -> None:
    """Print one fact a line, what is absent left out."""
    known = {name: text for name, text in facts.items() if text}
    widest = max(map(text_width, known), default=0)
    for name, text in known.items():
        result(f"{name}{' ' * (widest - text_width(name))}  {text}")


def number(value: float | None, form: str = ".4g", unit: str = "") -> str:
    """Return a number with its unit, or the sign for what is absent."""
    return ABSENT if value is None else f"{value:{form}}{f' {unit}' if unit else ''}"


def mib(size_bytes: float | None) -> str:
    """Return bytes as MiB."""
    return ABSENT if size_bytes is None else f"{size_bytes / 2**20:,.4g} MiB"


def when(at_us: int | None) -> str:
    """Return a time as UTC, to the minute."""
    return ABSENT if at_us is None else f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M}"
