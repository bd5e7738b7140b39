"""The one module that writes to the terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys

from rich.console import Console

from enginewatch_db.errors import EnginewatchError

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where nobody can widen the window."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Write one line of progress or advice to stderr."""
    err.print(text, markup=False, soft_wrap=True)


def result(text: str) -> None:
    """Write one line of result to stdout, as it is."""
    sys.stdout.write(text + "\n")


def result_json(value: object) -> None:
    """Write a JSON document to stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def complain(error: EnginewatchError) -> None:
    """Write an error in one line, and its remedy in a second one."""
    err.print(f"enginewatch: {error.message}", markup=False, soft_wrap=True, style="red")
    if error.remedy:
        err.print(f"  → {error.remedy}", markup=False, soft_wrap=True)
