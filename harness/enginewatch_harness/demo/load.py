"""Load the recordings into a store of their own, and judge every session. Loading twice changes nothing."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass

from enginewatch_db import bundle
from enginewatch_db.connect import Reader
from enginewatch_db.errors import StorageError, UsageError
from enginewatch_db.ingest import ingest
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.demo import build_runs, engine_runs, files, server_runs
from enginewatch_harness.demo.catalogue import PLANS
from enginewatch_harness.demo.stamps import Planned

MARKER = "enginewatch-demo.json"
LOADER = 1
"""Raise it when the same recordings are to give other runs: stores of other loaders are then refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What loading did.

    Attributes:
        loaded: Runs that were not in the store before.
        known: Runs that were.
        sentences: Plan → verdict of its newest session.
        wall_s: Time that it took.
    """

    loaded: int
    known: int
    sentences: dict[str, str]
    wall_s: float


def planned() -> list[Planned]:
    """Return all recorded runs, plan by plan, in the order in which they were measured."""
    return [*engine_runs.planned(), *build_runs.planned(), *server_runs.planned()]


def load_demo(workspace: Workspace) -> DemoReport:
    """Load what the store lacks, judge the sessions that are not judged yet.

    Raises:
        UsageError: The folder holds something else than a demo, or the demo of another version.
        StorageError: It cannot be written.
    """
    began = time.monotonic()
    claim(workspace)
    with workspace.lock("demo", wait_s=60.0, busy="another demo loads its runs here"):
        is_judged = claim(workspace)
        runs = planned()
        missing = _missing(workspace, runs)
        _load(workspace, missing)
        sentences = _judge(workspace, runs, store=bool(missing) or not is_judged)
        _mark(workspace, is_judged=True)
    return DemoReport(
        loaded=len(missing),
        known=len(runs) - len(missing),
        sentences=sentences,
        wall_s=time.monotonic() - began,
    )


def _missing(workspace: Workspace, runs: list[Planned]) -> list[Planned]:
    if not workspace.read_copy.exists():
        return runs
    with Reader.open(workspace) as reader:
        sessions = [str(row["session_id"]) for row in reader.rows("gate_sessions")]
        known = {str(row["run_id"]) for row in reader.rows("gate_runs", sessions=sessions)}
    return [run for run in runs if run.stamp.run_id not in known]


def _load(workspace: Workspace, missing: list[Planned]) -> None:
    if not missing:
        return
    for run in missing:
        # An earlier attempt that was ended may have left it in the spool: bundles are whole or absent.
        if not (workspace.spool / run.stamp.run_id).exists():
            bundle.write(workspace.spool, *run.make())
    quarantined = ingest(workspace).quarantined
    if quarantined:
        name, reason = next(iter(quarantined.items()))
        raise StorageError(f"a recorded run could not be stored: {name}: {reason}", remedy="enginewatch demo --reset")


def claim(workspace: Workspace) -> bool:
    """Make the folder a demo store, or make sure that it is one: nobody's own runs are ever mixed with recorded ones.

    Returns:
        Whether an earlier call loaded and judged everything.

    Raises:
        UsageError: It is another kind of folder, or a demo of other recordings.
    """
    marker = workspace.root / MARKER
    if marker.is_file():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in _identity()} != _identity():
            raise UsageError(
                f"{workspace.root} holds the demo of another enginewatch",
                remedy="load it anew: enginewatch demo --reset",
            )
        return bool(found.get("judged"))
    if workspace.root.is_dir() and any(workspace.root.iterdir()):
        raise UsageError(
            f"{workspace.root} is not empty and not a demo: recorded runs are never mixed with your own",
            remedy="give another folder: enginewatch demo --store DIR",
        )
    try:
        workspace.root.mkdir(parents=True, exist_ok=True)
        # The marker comes first: whatever ends this process, the folder is known for what it is.
        _mark(workspace, is_judged=False)
    except OSError as error:
        raise StorageError(
            f"cannot make the demo's folder {workspace.root}: {error.strerror}",
            remedy="give another one with --store DIR",
        ) from error
    workspace.create()
    return False


def _identity() -> Json:
    return {"recordings_sha256": files.fingerprint(), "loader": LOADER}


def _mark(workspace: Workspace, *, is_judged: bool) -> None:
    content = {**_identity(), "judged": is_judged}
    (workspace.root / MARKER).write_text(json.dumps(content) + "\n", encoding="utf-8")


def reset(workspace: Workspace) -> None:
    """Delete a demo store.

    Raises:
        UsageError: The folder is not a demo.
    """
    if not workspace.root.exists():
        return
    if not (workspace.root / MARKER).is_file():
        raise UsageError(
            f"{workspace.root} is not a demo: it is left alone", remedy="give the demo's folder with --store DIR"
        )
    shutil.rmtree(workspace.root)


def _judge(workspace: Workspace, runs: list[Planned], *, store: bool) -> dict[str, str]:
    """Judge each session in its turn against the first one of its plan; return the newest one's sentence."""
    from enginewatch_ci.judge import judge
    from enginewatch_ci.policy import load_policy

    policy = load_policy(None)
    sentences = {}
    for plan in PLANS:
        sessions = list(dict.fromkeys(run.stamp.session_id for run in runs if run.stamp.plan_name == plan))
        for session in sessions:
            sentences[plan] = judge(workspace.root, candidate=session, policy=policy, store=store).sentence
    return sentences
