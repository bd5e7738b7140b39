"""``enginewatch engines verify`` and ``prune``: is the cache whole, and what of it may go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import click

from enginewatch_ci.phrasing import count
from enginewatch_db.connect import Reader
from enginewatch_db.engines import engine_rows, protected
from enginewatch_db.errors import ExitCode
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.db import open_reader
from enginewatch_harness.commands.engine_tables import mib, print_table
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result, result_json, say
from enginewatch_harness.engine_cache import Entry, State, entries, remove, was_built_here
from enginewatch_harness.engine_prune import Doomed, Limits, plan_prune
from enginewatch_harness.engine_registry import Engine, read_engines

_LISTED = 6
NOT_WHOLE = frozenset({State.MISSING, State.ALTERED, State.UNREADABLE})


@click.command()
@store_option
@json_option
def verify(workspace: Workspace, *, as_json: bool) -> None:
    """Read every cached engine again and compare its checksum with that of its build.

    \b
    Exit codes: 0 all whole, 6 an engine is missing, altered or unreadable. What a killed builder left is an orphan:
    it is told, and harms nothing.
    Example:    enginewatch engines verify
    """
    with open_reader(workspace) as reader:
        cache = entries(workspace)
        lost = _lost(reader, workspace, cache)
    bad = [entry for entry in cache if entry.state in NOT_WHOLE]
    if as_json:
        result_json(_report(cache, lost))
    else:
        _print_verified(cache, lost)
    if bad or lost:
        click.get_current_context().exit(int(ExitCode.STORAGE))


def _lost(reader: Reader, workspace: Workspace, cache: Sequence[Entry]) -> dict[str, str]:
    """Return the engines that must stay, were in this cache once, and are no longer → why they must.

    Runs come from other hosts and from recordings too, and their engines never lay here: a build's lock file, which
    stays, tells the ones that did.
    """
    lying = {entry.record.engine_sha256 for entry in cache if entry.record is not None}
    kept = {sha256: why for sha256, why in protected(reader).items() if sha256 not in lying}
    builds = {str(row["engine_sha256"]): row for row in engine_rows(reader)}
    return {
        sha256: why
        for sha256, why in kept.items()
        if sha256 in builds and was_built_here(workspace, builds[sha256]["engine_key"], builds[sha256]["build_number"])
    }


def _report(cache: Sequence[Entry], lost: dict[str, str]) -> Json:
    return {
        "checked": len(cache),
        "bytes": sum(entry.size_bytes for entry in cache),
        "folders": [
            {
                "folder": entry.folder.name,
                "state": entry.state,
                "why": entry.why,
                "engine_sha256": entry.record.engine_sha256 if entry.record else None,
                "bytes": entry.size_bytes,
            }
            for entry in cache
        ],
        "lost": [{"engine_sha256": sha256, "kept": why} for sha256, why in lost.items()],
    }


def _print_verified(cache: Sequence[Entry], lost: dict[str, str]) -> None:
    rows = [(entry.folder.name, str(entry.state), entry.why or "") for entry in cache if entry.state is not State.OK]
    rows += [(sha256[:12], "missing", f"not in the cache any more: {why}") for sha256, why in lost.items()]
    if rows:
        names = ("folder", "state", "why")
        print_table({name: [row[place] for row in rows] for place, name in enumerate(names)}, first_to_go=())
    whole = sum(entry.state is State.OK for entry in cache)
    result(f"{whole} of {len(cache)} engines are whole, {mib(sum(entry.size_bytes for entry in cache))}")
    if any(entry.state is not State.OK for entry in cache):
        say("`enginewatch engines prune --yes` removes what is broken; the next session builds it again")
    if lost:
        say(
            "what is missing does not come back: a new build has other bytes. Measure again and accept that session, "
            'and its engines are the last good ones: enginewatch accept latest --reason "..."'
        )


@click.command()
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="What was not used for DAYS.")
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="What is not among the last N of any case.")
@click.option("--max-size", type=click.FloatRange(0), metavar="MIB", help="The longest unused, down to MIB in all.")
@click.option("--yes", is_flag=True, help="Remove; without it only what would go is told.")
@store_option
@json_option
def prune(
    older_than: float | None,
    keep_last: int | None,
    max_size: float | None,
    yes: bool,
    workspace: Workspace,
    *,
    as_json: bool,
) -> None:
    """Remove cached engines that nobody needs; the store keeps what was measured with them.

    Never removed: the last good engines of a case, those that a baseline was measured with, and anything while a
    session runs. What a killed builder left and what is broken always goes.

    \b
    Examples:
      enginewatch engines prune --keep-last 2
      enginewatch engines prune --older-than 30 --max-size 20000 --yes
    """
    limits = Limits(older_than_days=older_than, keep_last=keep_last, max_mib=max_size)
    with open_reader(workspace) as reader:
        known = read_engines(reader, workspace)
    doomed = plan_prune(known, entries(workspace, hashed=False), limits, now_us=time.time_ns() // 1000)
    removed = _remove(workspace, doomed) if yes else ()
    freed = sum(item.entry.size_bytes for item in (removed if yes else doomed))
    if as_json:
        listed = [
            {"folder": item.entry.folder.name, "bytes": item.entry.size_bytes, "why": item.why} for item in doomed
        ]
        result_json({"removed": len(removed) if yes else 0, "bytes": freed, "dry_run": not yes, "folders": listed})
        return
    _print_pruned(doomed, limits, len(removed), freed, yes=yes)
    if limits.any:
        _print_staying(known, doomed, limits)


def _remove(workspace: Workspace, doomed: Sequence[Doomed]) -> tuple[Doomed, ...]:
    # A session holds this lock from its first build to its last run.
    with workspace.lock("session", wait_s=0.0, busy="a session runs, and its engines must stay"):
        return tuple(item for item in doomed if remove(workspace, item.entry.folder))


def _print_staying(known: Sequence[Engine], doomed: Sequence[Doomed], limits: Limits) -> None:
    """Say which engines stay although they are beyond the limits, and where nothing goes, why not."""
    going = {item.entry.folder for item in doomed}
    unprotected = [replace(engine, kept=None) for engine in known if engine.entry and engine.entry.folder not in going]
    beyond = plan_prune(unprotected, (), limits, now_us=time.time_ns() // 1000)
    why = {engine.sha256: engine.kept for engine in known if engine.kept is not None}
    kept = {item.engine.short: why[item.engine.sha256] for item in beyond if item.engine and item.engine.sha256 in why}
    if kept:
        listed = ", ".join(f"{short} ({reason})" for short, reason in list(kept.items())[:_LISTED])
        more = f" and {len(kept) - _LISTED} more" if len(kept) > _LISTED else ""
        say(f"protected, though beyond the limits: {listed}{more}")
    elif not doomed:
        say(f"none of the {count(len(unprotected), 'engine')} in the cache is beyond the limits")


def _print_pruned(doomed: Sequence[Doomed], limits: Limits, removed: int, freed: int, *, yes: bool) -> None:
    if doomed:
        columns = {
            "engine": [item.engine.short if item.engine else item.entry.folder.name for item in doomed],
            "size": [mib(item.entry.size_bytes) for item in doomed],
            "why": [item.why for item in doomed],
        }
        print_table(columns, first_to_go=(), right=("size",))
    if yes:
        result(f"removed {removed} of {len(doomed)}, {mib(freed)}")
    else:
        result(f"{len(doomed)} would go, {mib(freed)}; --yes removes them")
    if not limits.any:
        say("no limit is given: --older-than, --keep-last and --max-size say what else may go")
