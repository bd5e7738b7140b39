"""What was concluded: verdicts, findings and accepted baselines, written beside the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from enginewatch_db import engines, ids
from enginewatch_db.connect import writer
from enginewatch_db.errors import UsageError
from enginewatch_db.model import Comparison, Finding
from enginewatch_db.workspace import Workspace


def store(
    workspace: Workspace | Path,
    session_id: str,
    *,
    baseline_session: str | None,
    comparisons: Sequence[Comparison],
    findings: Sequence[Finding],
) -> None:
    """Replace the verdicts of this pair of sessions and the findings of this session, in one transaction.

    Raises:
        StorageError: As ``connect.writer``.
    """
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace.absolute())
    with writer(place) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "DELETE FROM verdicts WHERE candidate_session = ? AND baseline_session IS NOT DISTINCT FROM ?",
            [session_id, baseline_session],
        )
        connection.execute("DELETE FROM findings WHERE session_id = ?", [session_id])
        for comparison in comparisons:
            connection.execute(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
                _verdict_row(session_id, baseline_session, comparison),
            )
        for finding in findings:
            connection.execute(
                "INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())", _finding_row(finding)
            )
        engines.mark_judged(connection, session_id, baseline_session, comparisons)
        connection.execute("COMMIT")


def store_speedups(workspace: Workspace | Path, session_id: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Replace the speed-ups of a session, in one transaction.

    Args:
        workspace: The folder of the store.
        session_id: The session.
        rows: Case, reference case, metric, speed-up, ends of its interval, repeats behind it.

    Raises:
        StorageError: As ``connect.writer``.
    """
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace.absolute())
    with writer(place) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM speedups WHERE session_id = ?", [session_id])
        for row in rows:
            connection.execute("INSERT INTO speedups VALUES (?, ?, ?, ?, ?, ?, ?, ?, now())", [session_id, *row])
        connection.execute("COMMIT")


def _verdict_row(session_id: str, baseline_session: str | None, item: Comparison) -> list[object]:
    effect = item.effect
    return [
        session_id,
        baseline_session,
        item.case_key,
        item.series_id,
        item.metric,
        item.verdict,
        item.why,
        item.baseline_value,
        item.candidate_value,
        effect.rel if effect else None,
        effect.ci_low if effect else None,
        effect.ci_high if effect else None,
        effect.confidence if effect else None,
        effect.n_baseline if effect else None,
        effect.n_candidate if effect else None,
        item.threshold_rel,
        effect.method if effect else None,
        item.cause,
        list(item.notes),
    ]


def _finding_row(item: Finding) -> list[object]:
    # The id is a hash of what the finding is about, so that judging again keeps its events attached.
    about = [item.kind, item.detector, item.session_id, item.case_key, item.run_id, item.metric]
    return [
        ids.content_id({"about": [None if part is None else str(part) for part in about]}, "finding/v1"),
        item.kind,
        item.severity,
        item.title,
        item.session_id,
        item.case_key,
        item.run_id,
        item.metric,
        item.value,
        json.dumps(asdict(item)["evidence"]),
        item.remedy,
        item.detector,
        item.confidence,
    ]


def accept(
    workspace: Workspace | Path, plan_name: str, session_id: str, *, by: str | None, reason: str
) -> tuple[str, ...]:
    """Make a session the baseline of its plan, and its engines the last good ones; nothing is overwritten.

    Returns:
        The cases whose engines are not made the last good ones, because their outputs were judged wrong.

    Raises:
        UsageError: ``reason`` is empty.
        StorageError: As ``connect.writer``.
    """
    if not reason.strip():
        raise UsageError("a baseline needs a reason", remedy='enginewatch accept SESSION --reason "why"')
    place = workspace if isinstance(workspace, Workspace) else Workspace(workspace.absolute())
    with writer(place) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO baselines VALUES (?, ?, now(), ?, ?)", [plan_name, session_id, by, reason])
        wrong = engines.mark_accepted(connection, session_id, reason)
        connection.execute("COMMIT")
    return wrong
