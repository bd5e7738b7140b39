"""The adapter: arms from the store's read copy, or from folders of bundles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginewatch_ci.facts import Arm, History, RunFacts, SessionFacts
from enginewatch_db.errors import UsageError
from enginewatch_db.ids import series_id
from enginewatch_db.metrics import METRICS, MetricValue
from enginewatch_db.model import Failure, Json, RunRecord, RunStatus
from enginewatch_db.validity import REASONS, Reason

if TYPE_CHECKING:
    from enginewatch_db.connect import Reader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HISTORY_RUNS = 60
"""Earlier runs per series that the noise is learnt from: older ones were another machine in all but name."""


def read_sessions(reader: Reader) -> list[SessionFacts]:
    """Return all sessions of the store, oldest first."""
    rows = reader.rows("gate_sessions")
    starts = [EPOCH + timedelta(microseconds=row.pop("started_us")) for row in rows]
    left = [tuple(row.pop("left_for_another_host")) for row in rows]
    return [
        SessionFacts(started_at=start, left_for_another_host=cases, **row)
        for start, cases, row in zip(starts, left, rows, strict=True)
    ]


def read_accepted(reader: Reader) -> dict[str, str]:
    """Return plan → session id of its newest accept entry."""
    return {row["plan_name"]: row["session_id"] for row in reader.rows("gate_accepted")}


def read_arm(reader: Reader, ref: str, sessions: Sequence[SessionFacts]) -> Arm:
    """Return the runs of some sessions of the store."""
    ids = [session.session_id for session in sessions]
    metrics: dict[str, dict[str, MetricValue]] = {}
    for row in reader.rows("gate_metrics", sessions=ids):
        run_id = row.pop("run_id")
        # A newer enginewatch may have stored metrics that this one does not know.
        if row["metric"] in METRICS:
            metrics.setdefault(run_id, {})[row["metric"]] = MetricValue(**row)
    reasons: dict[str, list[Reason]] = {}
    for row in reader.rows("gate_reasons", sessions=ids):
        if row["code"] in REASONS:
            reasons.setdefault(row["run_id"], []).append(Reason(code=row["code"], detail=row["detail"] or ""))
    runs = tuple(
        _stored_run(row, metrics.get(row["run_id"], {}), tuple(reasons.get(row["run_id"], ())))
        for row in reader.rows("gate_runs", sessions=ids)
    )
    return Arm(ref=ref, sessions=tuple(sessions), runs=runs)


def _stored_run(row: dict[str, Any], metrics: dict[str, MetricValue], reasons: tuple[Reason, ...]) -> RunFacts:
    failure = None
    if row["failure_code"]:
        failure = Failure(
            code=row["failure_code"], message=row["failure_message"] or "", remedy=row["failure_remedy"] or None
        )
    return RunFacts(
        run_id=row["run_id"],
        session_id=row["session_id"],
        case_key=row["case_key"],
        series_id=row["series_id"],
        identity=json.loads(row["identity"]),
        status=RunStatus(row["status"]),
        valid=row["valid"],
        reasons=reasons,
        failure=failure,
        metrics=metrics,
        facets=_facets(json.loads(row["facets"] or "{}"), row["hostname"], row["cpu_model"]),
        fingerprint=row["fingerprint"],
    )


def _facets(environment: Json, hostname: str | None, cpu_model: str | None) -> Json:
    host = {"host": hostname, "cpu_model": cpu_model}
    return {**environment, **{name: value for name, value in host.items() if value}}


def read_history(reader: Reader, arms: Sequence[Arm], before: datetime, metrics: Sequence[str]) -> History:
    """Return what earlier runs of the arms' series measured.

    Args:
        reader: The store.
        arms: Their own sessions are left out: a verdict must not vouch for itself.
        before: Only runs that began earlier.
        metrics: Which metrics.
    """
    rows = reader.rows(
        "gate_history",
        sessions=[session for arm in arms for session in arm.session_ids],
        series=sorted({run.series_id for arm in arms for run in arm.runs}),
        metrics=list(metrics),
        before_us=(before - EPOCH) // timedelta(microseconds=1),
        limit=HISTORY_RUNS,
    )
    return {(row["series_id"], row["metric"]): tuple(row["values"]) for row in rows}


def bundle_arm(ref: str, folder: Path) -> Arm:
    """Return the runs of all bundles below a folder.

    Raises:
        UsageError: The folder holds no bundle, or bundles of several plans.
        BundleError: A bundle cannot be read.
    """
    from enginewatch_db.bundle import read_record

    records = [read_record(path.parent) for path in sorted(folder.glob("**/run.json"))]
    plans = sorted({record.plan_name for record in records})
    if len(plans) != 1:
        what = f"bundles of the plans {', '.join(plans)}" if plans else "no run bundle"
        raise UsageError(f"{folder} holds {what}", remedy="give a folder with the bundles of one plan")
    records.sort(key=lambda record: record.run_id)
    return Arm(
        ref=ref,
        sessions=tuple(_bundle_sessions(records)),
        runs=tuple(_bundle_run(record) for record in records),
        stored=False,
    )


def _bundle_sessions(records: Sequence[RunRecord]) -> Iterable[SessionFacts]:
    by_id: dict[str, list[RunRecord]] = {}
    for record in records:
        by_id.setdefault(record.session_id, []).append(record)
    sessions = []
    for session_id, runs in by_id.items():
        facts = runs[0].session
        sessions.append(
            SessionFacts(
                session_id=session_id,
                plan_name=runs[0].plan_name,
                started_at=datetime.fromisoformat(str(facts.get("started_at", runs[0].started_at))),
                label=facts.get("label"),
                git_commit=facts.get("git_commit"),
                git_dirty=facts.get("git_dirty"),
                runs=len(runs),
                valid_runs=sum(run.valid for run in runs),
                policy_text=facts.get("policy_text"),
                left_for_another_host=tuple(facts.get("left_for_another_host") or ()),
            )
        )
    return sorted(sessions, key=lambda session: (session.started_at, session.session_id))


def _bundle_run(record: RunRecord) -> RunFacts:
    host = record.host
    return RunFacts(
        run_id=record.run_id,
        session_id=record.session_id,
        case_key=record.case_key,
        series_id=series_id(record.identity),
        identity=asdict(record.identity),
        status=record.status,
        valid=record.valid,
        reasons=record.reasons,
        failure=record.failure,
        metrics={value.metric: value for value in record.metrics},
        facets=_facets(record.environment, host.get("hostname"), host.get("cpu_model")),
        fingerprint=record.engine.fingerprint if record.engine else None,
    )
