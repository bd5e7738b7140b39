"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from enginewatch_db.workspace import Workspace

Function = TypeVar("Function", bound=Callable[..., object])


def store_option(function: Function) -> Function:
    """Add ``--store`` and pass a ``Workspace`` as ``workspace``."""
    return click.option(
        "--store",
        "workspace",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        callback=lambda _ctx, _parameter, value: Workspace.locate(value),
        help="Folder of the store (default: $ENGINEWATCH_STORE, else .enginewatch here).",
    )(function)


def json_option(function: Function) -> Function:
    """Add ``--json`` as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(function)
