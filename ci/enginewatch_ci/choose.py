"""Find and load the two arms that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_ci import refs
from enginewatch_ci.facts import Arm, History, SessionFacts
from enginewatch_ci.load import bundle_arm, read_accepted, read_arm, read_history, read_sessions
from enginewatch_ci.phrasing import listed
from enginewatch_db.errors import UsageError

if TYPE_CHECKING:
    from enginewatch_db.connect import Reader

LATEST = "latest"
BASELINE = "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPair:
    """Two arms, ready to be judged.

    Attributes:
        candidate: What to judge.
        baseline: What to compare to; ``None`` where the plan has none yet.
        history: Values of earlier runs of the same series.
        notes: What was left out in choosing.
    """

    candidate: Arm
    baseline: Arm | None
    history: History
    notes: tuple[str, ...] = ()


def load_pair(workspace: Path, candidate: str, baseline: str, *, metrics: Sequence[str]) -> LoadedPair:
    """Return the arms that two REFs mean; the baseline is looked for in the candidate's plan.

    Args:
        workspace: The folder of the store; not opened when both are folders of bundles.
        candidate: What to judge.
        baseline: What to compare to.
        metrics: Metrics whose history is read.

    Raises:
        UsageError: A REF that means nothing, or more than one thing.
        StorageError: There is no store, or it cannot be read.
        BundleError: A bundle cannot be read.
    """
    if candidate == BASELINE:
        raise UsageError("the candidate cannot be 'baseline'", remedy="name a session, a label, a commit or a folder")
    folders = [None if ref in (LATEST, BASELINE) else refs.as_folder(ref) for ref in (candidate, baseline)]
    if folders[0] is not None and folders[1] is not None:
        arm, against = bundle_arm(candidate, folders[0]), bundle_arm(baseline, folders[1])
        return LoadedPair(candidate=arm, baseline=against, history={})
    # Imported here: two folders of bundles can be judged where there is no DuckDB.
    from enginewatch_db.connect import Reader

    with Reader.open(workspace) as reader:
        sessions = read_sessions(reader)
        arm = _candidate(reader, candidate, folders[0], sessions)
        found = _baseline(reader, baseline, folders[1], sessions, arm)
        left = refs.passed_over(candidate, arm.newest, sessions) if refs.is_latest(candidate) else []
        before = min(session.started_at for session in arm.sessions)
        arms = [arm] if found is None else [arm, found]
        return LoadedPair(
            candidate=arm,
            baseline=found,
            history=read_history(reader, arms, before, metrics),
            notes=_left_out(arms, [*left, *_left_by_baseline(reader, baseline, sessions, arm, found)]),
        )


def _candidate(reader: Reader, ref: str, folder: Path | None, sessions: Sequence[SessionFacts]) -> Arm:
    if folder is not None:
        return bundle_arm(ref, folder)
    chosen = refs.resolve(ref, sessions)
    plans = sorted({session.plan_name for session in chosen})
    if len(plans) > 1:
        raise UsageError(
            f"{ref!r} names sessions of {len(plans)} plans: {', '.join(plans)}", remedy="name one session by its id"
        )
    return read_arm(reader, ref, chosen)


def _baseline(
    reader: Reader, ref: str, folder: Path | None, sessions: Sequence[SessionFacts], candidate: Arm
) -> Arm | None:
    if folder is not None:
        return bundle_arm(ref, folder)
    plan = candidate.newest.plan_name
    if ref == BASELINE:
        chosen = refs.baseline_of(plan, sessions, read_accepted(reader))
        return None if chosen is None else read_arm(reader, ref, chosen)
    return read_arm(reader, ref, refs.resolve(ref, sessions, plan=plan))


def _left_by_baseline(
    reader: Reader, ref: str, sessions: Sequence[SessionFacts], candidate: Arm, found: Arm | None
) -> list[SessionFacts]:
    plan = candidate.newest.plan_name
    chosen = found.newest if found else None
    accepted = ref == BASELINE and chosen is not None and read_accepted(reader).get(plan) == chosen.session_id
    if accepted or not (ref == BASELINE or refs.is_latest(ref)):
        return []
    return refs.passed_over(ref, chosen, [session for session in sessions if session.plan_name == plan])


def _left_out(named: Sequence[Arm], left: Sequence[SessionFacts]) -> tuple[str, ...]:
    """Say which unfinished sessions were passed over where nobody named one."""
    used = {session_id for arm in named for session_id in arm.session_ids}
    found = {item.session_id: item for item in left if item.session_id not in used}
    if not found:
        return ()
    told = listed(f"{item.title} with {item.runs} of {item.runs + item.missing_runs} runs" for item in found.values())
    return (
        f"Left out, because unfinished: {told}. `enginewatch run PLAN --resume` finishes the newest; "
        "to use one as it is, give its id.",
    )


def choose_session(workspace: Path, ref: str) -> SessionFacts:
    """Return the one session that a REF means; of several (a commit, a label) none is chosen.

    Raises:
        UsageError: The REF means nothing, or more than one session.
        StorageError: There is no store, or it cannot be read.
    """
    from enginewatch_db.connect import Reader

    with Reader.open(workspace) as reader:
        found = refs.resolve(ref, read_sessions(reader))
    if len(found) > 1:
        raise UsageError(
            f"{ref!r} names {len(found)} sessions", remedy=f"give one of {listed(s.session_id for s in found)}"
        )
    return found[0]


def sessions_of_plan(workspace: Path, plan: str) -> list[SessionFacts]:
    """Return the sessions of a plan that have runs, oldest first.

    Raises:
        StorageError: There is no store, or it cannot be read.
    """
    from enginewatch_db.connect import Reader

    with Reader.open(workspace) as reader:
        return [session for session in read_sessions(reader) if session.plan_name == plan and session.runs]
