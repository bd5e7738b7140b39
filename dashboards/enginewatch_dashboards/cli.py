"""``enginewatch dashboard``: serve the dashboard and open it."""

from __future__ import annotations

from pathlib import Path

import click

from enginewatch_dashboards.launch import DEFAULT_HOST, DEFAULT_PORT, MAX_PORT, launch
from enginewatch_db.workspace import Workspace


@click.command()
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the store (default: $ENGINEWATCH_STORE, else .enginewatch here).",
)
@click.option("--port", type=click.IntRange(1, MAX_PORT), default=DEFAULT_PORT, show_default=True, help="Port.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on; there is no login.")
@click.option("--no-browser", is_flag=True, help="Only serve; open no browser.")
def dashboard(store: Path | None, port: int, host: str, *, no_browser: bool) -> None:
    """Open the dashboard in a browser; it reads the published copy and never writes.

    \b
    Example:
      enginewatch dashboard --store /var/lib/enginewatch --port 8600 --no-browser
    """
    code = launch(Workspace.locate(store).root, port=port, host=host, open_browser=not no_browser)
    click.get_current_context().exit(code)
