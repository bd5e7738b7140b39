"""``enginewatch ingest``: move finished bundles into the store."""

from __future__ import annotations

from dataclasses import asdict

import click

from enginewatch_db.errors import ExitCode
from enginewatch_db.ingest import ingest as ingest_spool
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result, result_json, say


@click.command()
@store_option
@json_option
def ingest(workspace: Workspace, *, as_json: bool) -> None:
    """Move every finished bundle of the spool into the store, and publish a read copy.

    Bundles that cannot be read go to quarantine with their reason; the rest goes in.

    \b
    Example:
      enginewatch ingest --store /var/lib/enginewatch
    """
    report = ingest_spool(workspace)
    if as_json:
        result_json(asdict(report))
    else:
        result(f"{len(report.ingested)} runs ingested, {len(report.known)} were there already")
    for name, reason in report.quarantined.items():
        say(f"quarantined {name}: {reason}")
    if report.quarantined:
        click.get_current_context().exit(ExitCode.STORAGE)
