"""``enginewatch engines``: what was built, where it is used, and what lies in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import click

from enginewatch_db.connect import Reader
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.db import open_reader
from enginewatch_harness.commands.engine_tables import mib, number, print_table, when
from enginewatch_harness.commands.engines_care import prune, verify
from enginewatch_harness.commands.engines_diff import diff
from enginewatch_harness.commands.engines_show import show
from enginewatch_harness.commands.engines_spread import spread
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result_json, say
from enginewatch_harness.engine_registry import Engine, read_engines

FIRST_TO_GO = ("device", "version", "build s", "last used (UTC)", "backend", "size", "runs")


@click.group()
def engines() -> None:
    """List, explain, compare, check and prune built engines.

    \b
    Examples:
      enginewatch engines list
      enginewatch engines diff 3f9c1d2a 88e0b1c4
      enginewatch engines prune --keep-last 2
    """


for command in (show, diff, spread, verify, prune):
    engines.add_command(command)


@engines.command(name="list")
@click.option("--case", "case", metavar="TEXT", help="Only engines of cases whose key contains TEXT.")
@store_option
@json_option
def list_(case: str | None, workspace: Workspace, *, as_json: bool) -> None:
    """List engines, the last used first: those of the store, and those that only lie in the cache.

    \b
    Example:
      enginewatch engines list --case fp16
    """
    with open_reader(workspace) as reader:
        found = _chosen(reader, workspace, case)
    if as_json:
        result_json([engine.as_json() for engine in found])
        return
    if not found:
        say("no engine" if case is None else f"no engine of a case with {case!r} in its key")
        return
    print_table(_columns(found), first_to_go=FIRST_TO_GO, right=("runs", "build s", "size"))


def _chosen(reader: Reader, workspace: Workspace, case: str | None) -> list[Engine]:
    every = read_engines(reader, workspace)
    return [engine for engine in every if case is None or any(case in key for key in engine.cases)]


def _columns(found: Sequence[Engine]) -> dict[str, list[str]]:
    records = [engine.record for engine in found]
    return {
        "engine": [engine.short for engine in found],
        "case": [_cases(engine) for engine in found],
        "backend": [record.backend or "–" for record in records],
        "version": [record.tool_version or "–" for record in records],
        "precision": [_precision(engine) for engine in found],
        "device": [record.device or "–" for record in records],
        "build": [str(record.build_number + 1) for record in records],
        "build s": [number(record.build_time_s, ".3g") for record in records],
        "size": [mib(record.size_bytes) for record in records],
        "runs": [str(engine.runs) for engine in found],
        "last used (UTC)": [when(engine.last_used_us) for engine in found],
        "cache": ["–" if engine.entry is None else str(engine.entry.state) for engine in found],
        "kept": [engine.kept.split(" of ")[0] if engine.kept else "" for engine in found],
    }


def _cases(engine: Engine) -> str:
    if not engine.cases:
        return f"{engine.record.model or '?'} (never measured)"
    more = len(engine.cases) - 1
    return f"{engine.cases[0]}{f' +{more}' if more else ''}"


def _precision(engine: Engine) -> str:
    asked, found = engine.record.precision or "–", engine.record.realised_precision
    return asked if found in (None, asked) else f"{asked} → {found}"
