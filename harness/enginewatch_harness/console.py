"""The one module that writes to the terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from enginewatch_db.errors import EnginewatchError
from enginewatch_db.text_columns import wrapped

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where nobody can widen the window."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)


def say(text: str, *, wrap: bool = True) -> None:
    """Write progress or advice to stderr; on a terminal its lines end at words, unless it is not to be wrapped."""
    err.print(wrapped(text, _window(err) if wrap else None), markup=False, soft_wrap=True)


def result(text: str) -> None:
    """Write one line of result to stdout, as it is."""
    sys.stdout.write(text + "\n")


def result_prose(text: str, *, indent: str = "") -> None:
    """Write a sentence of the result to stdout; on a terminal its lines end at words, and ``indent`` begins others."""
    sys.stdout.write(wrapped(text, _window(out), indent=indent) + "\n")


def _window(console: Console) -> int | None:
    """Return the columns of the terminal behind a console; ``None`` for a file or a pipe."""
    return console.width if console.file.isatty() else None


def result_json(value: object) -> None:
    """Write a JSON document to stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def complain(error: EnginewatchError) -> None:
    """Write an error in one line, and its remedy in a second one."""
    err.print(wrapped(f"enginewatch: {error.message}", _window(err)), markup=False, soft_wrap=True, style="red")
    if error.remedy:
        err.print(wrapped(f"  → {error.remedy}", _window(err), indent="    "), markup=False, soft_wrap=True)
