"""``enginewatch rollback``: the last good engine of a case, with all that is needed to run it again."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import click

from enginewatch_db.connect import Reader
from enginewatch_db.engines import GoodEngine, good_engines
from enginewatch_db.errors import StorageError, UsageError
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.db import open_reader
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import result, result_json, say
from enginewatch_harness.engine_cache import State, read_entry
from enginewatch_harness.engine_fit import Here, misfits, unknown
from enginewatch_harness.engine_registry import SHORT, Engine, find, read_engines
from enginewatch_harness.rollback import Bundle, archive_of, default_name, here, pack, write_bundle

_LISTED = 6


@click.command()
@click.argument("case")
@click.option("--plan", metavar="NAME", help="The plan, where more than one has this case.")
@click.option("--engine", "engine_id", metavar="ID", help="This engine of the case instead of the last good one.")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="New folder.  [default: rollback-*]"
)
@click.option("--tar", is_flag=True, help="Write DIR.tar.gz instead of a folder.")
@click.option("--force", is_flag=True, help="Also where GPU or version here do not fit the engine.")
@store_option
@json_option
def rollback(
    case: str,
    plan: str | None,
    engine_id: str | None,
    target: Path | None,
    tar: bool,
    force: bool,
    workspace: Workspace,
    *,
    as_json: bool,
) -> None:
    """Write the last good engine of CASE into a folder: engine, plan, timing cache, build log, versions, checksums.

    An engine is good when its session was accepted, or judged no worse than the baseline. GPU and version here must
    be those that it was built for; of a case with last good engines for several GPUs, the newest that fits is taken.
    Where the engine is gone or altered, its plan is written into NAME.plan.toml of the working folder, NAME being that
    of the new folder, and the command that builds it again is told.

    \b
    Exit codes: 0 written, 2 no such engine or it does not fit here, 6 it is gone from the cache, or was altered.
    Example:    enginewatch rollback resnet/trtexec/fp16/b8 --to last-good
    """
    with open_reader(workspace) as reader:
        engines = read_engines(reader, workspace)
        look = cache(here)
        good = _choose(good_engines(reader, plan=plan), case, engines, look) if engine_id is None else None
        chosen = find(engines, good.engine_sha256 if good else str(engine_id))
        bundle = _bundle(reader, chosen, case, good)
    folder = target or Path(default_name(bundle.case_key, chosen.sha256))
    if tar and archive_of(folder).exists():
        raise UsageError(f"{archive_of(folder)} is there already", remedy="give another folder with --to")
    _check_cached(bundle, folder)
    warnings = _check_fit(chosen, look, force=force)
    bundle = replace(bundle, warnings=warnings, unchecked=unknown(chosen.record))
    for text in bundle.unchecked:
        say(f"warning: {text}")
    files = write_bundle(bundle, folder)
    written = pack(folder) if tar else folder
    if as_json:
        result_json({"written": str(written), "engine_sha256": chosen.sha256, "files": files, "warnings": warnings})
        return
    result(f"{written}: engine {chosen.title}, {bundle.why}")
    for name in files:
        result(f"  {name}")


def _choose(
    good: Sequence[GoodEngine], case: str, engines: Sequence[Engine], look: Callable[[str], Here]
) -> GoodEngine:
    """Return the last good engine of the case with this key, or whose key alone contains the text.

    Another GPU has its own: the newest that fits this machine is taken, and where none does, the newest.
    """
    exact = [item for item in good if item.case_key == case]
    found = exact or [item for item in good if case in item.case_key]
    keys = sorted({(item.plan_name, item.case_key) for item in found})
    if not found:
        fits = _keys_with(case, engines)
        known = ", ".join(sorted({item.case_key for item in good})[:_LISTED])
        remedy = (
            f"cases that have one: {known}" if known else 'accept a session: enginewatch accept latest --reason "..."'
        )
        what = repr(case) if case in fits or not fits else f"{case!r} ({', '.join(fits[:_LISTED])})"
        raise UsageError(f"there is no last good engine of a case {what}", remedy=remedy)
    if len(keys) > 1:
        listed = ", ".join(f"{key} of plan {plan}" for plan, key in keys[:_LISTED])
        raise UsageError(f"{case!r} fits {len(keys)} cases", remedy=f"give a whole key, or --plan: {listed}")
    records = {engine.sha256: engine.record for engine in engines}
    there = [item for item in found if item.engine_sha256 in records]
    fitting = [
        item
        for item in there
        if not misfits(records[item.engine_sha256], look(records[item.engine_sha256].backend or ""))
    ]
    taken = (fitting or there or found)[0]
    if others := sorted({item.engine_sha256 for item in found} - {taken.engine_sha256}):
        told = ", ".join(
            f"{sha256[:SHORT]} ({records[sha256].device or 'unknown GPU'}, build {records[sha256].build_number + 1})"
            if sha256 in records
            else sha256[:SHORT]
            for sha256 in others[:_LISTED]
        )
        say(f"the case has other last good engines, which --engine chooses: {told}")
    return taken


def _keys_with(case: str, engines: Sequence[Engine]) -> list[str]:
    """Return the cases of engines whose key contains the text; none where there are no cases at all.

    Raises:
        UsageError: No engine was measured in such a case; the nearest are named.
    """
    cases = sorted({key for engine in engines for key in engine.cases})
    found = [key for key in cases if case in key]
    if found or not cases:
        return found
    near = difflib.get_close_matches(case, cases, n=3, cutoff=0.6) or cases[:_LISTED]
    raise UsageError(f"no engine was measured in a case {case!r}", remedy=f"the nearest cases: {', '.join(near)}")


def _bundle(reader: Reader, chosen: Engine, case: str, good: GoodEngine | None) -> Bundle:
    case_key = good.case_key if good else next((key for key in chosen.cases if case in key), None)
    if case_key is None:
        raise UsageError(
            f"engine {chosen.title} was never measured in a case {case!r}",
            remedy=f"its cases: {', '.join(chosen.cases) or 'none'}",
        )
    used = [row for row in reader.rows("engines_usage", engine=chosen.sha256) if row["case_key"] == case_key]
    session_id = good.session_id if good else used[0]["session_id"]
    made = reader.rows("engines_provenance", engine=chosen.sha256)
    versions: Json = {}
    for column in ("facets", "provenance"):
        versions |= {column: json.loads(made[0][column] or "{}")} if made else {}
    session = {"session_id": session_id, **reader.rows("engines_plan", session=session_id)[0]}
    command = reader.rows("engines_command", engine=chosen.sha256, case=case_key)
    why = f"the last good one of its case ({good.why})" if good else "asked for by its id"
    return Bundle(
        engine=chosen,
        case_key=case_key,
        why=why,
        session=session,
        versions=versions,
        command=command[0]["command"] if command else None,
    )


def _check_cached(bundle: Bundle, folder: Path) -> None:
    """Refuse an engine that is gone or altered, and say how it is built again.

    Raises:
        StorageError: It is.
    """
    entry = bundle.engine.entry
    now = read_entry(entry.folder) if entry is not None and entry.folder.is_dir() else None
    if now is not None and now.state is State.OK:
        return
    why = "it is not in the cache any more" if now is None else str(now.why)
    raise StorageError(
        f"engine {bundle.engine.title} cannot be written: {why}", remedy=_rebuild(bundle, folder, now is not None)
    )


def _rebuild(bundle: Bundle, folder: Path, altered: bool) -> str:
    """Write the plan of the session down, where the store has it, and return the command that builds from it."""
    text = bundle.session.get("plan_text")
    name = bundle.session.get("plan_path")
    if not text and not name:
        return (
            "it cannot be built again here: its session was imported, and has no plan; take it from the machine that "
            "built it, or measure the case with a plan of your own (`enginewatch init` writes one)"
        )
    if not text:
        return f"build it again: `enginewatch run {name} --case {shlex.quote(bundle.case_key)} --repeats 1 --no-judge`"
    plan = Path(f"{folder.name}.plan.toml")
    if not plan.exists():
        try:
            plan.write_text(str(text), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {plan}: {error.strerror}", remedy="go to a writable folder") from error
    cache = bundle.engine.entry.folder / "timing.cache" if altered and bundle.engine.entry is not None else None
    kept = f"; its timing cache is {cache}" if cache is not None and cache.is_file() else ""
    return (
        f"its plan is in {plan}; build it again with "
        f"`enginewatch run {plan} --case {shlex.quote(bundle.case_key)} --repeats 1 --no-judge` "
        f"where the models lie (paths in it are relative to it){kept}"
    )


def _check_fit(chosen: Engine, look: Callable[[str], Here], *, force: bool) -> tuple[str, ...]:
    """Return what does not fit, where that is allowed.

    Raises:
        UsageError: Something does not fit, and ``force`` is off.
    """
    found = misfits(chosen.record, look(chosen.record.backend or ""))
    if found and not force:
        raise UsageError(
            f"engine {chosen.title} does not fit this machine: {'; '.join(found)}",
            remedy="roll back on the machine that it is for, or --force to write the bundle all the same",
        )
    for text in found:
        say(f"warning: {text}")
    return found
