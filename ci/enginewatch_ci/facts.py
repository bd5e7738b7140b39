"""What the judge reads: sessions, runs and arms. Frozen, without I/O; made by ``load`` from a store or from bundles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Failure, Json, RunStatus
from enginewatch_db.validity import REASONS, Reason, ValidityEffect

BROKEN_REASONS = frozenset({"run_failed", "server_died", "output_not_finite"})
"""Validity reasons that mean that the thing under test is broken, not that the measuring went wrong."""

_CPU = re.compile(
    r"\bcpu\b|xeon|epyc|ryzen|\bcore\(tm\)|threadripper|neoverse|graviton|altra|\(\d+ cores?\)$", re.IGNORECASE
)


def is_cpu(device: str) -> bool:
    """Return whether a device name of an identity is a CPU, so that the host's own speed is part of its results."""
    return bool(_CPU.search(device))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """One session, as far as choosing and reporting need it.

    Attributes:
        session_id: Its id (a UUID that sorts by time).
        plan_name: The plan that it executed.
        started_at: UTC.
        label: Name that the user gave; ``None`` where none.
        git_commit: Commit of the measured repository; ``None`` outside of one.
        git_dirty: Whether there were changes that no commit holds; ``None`` outside of a repository.
        runs: All its runs.
        valid_runs: Those that may enter a verdict.
        missing_runs: Runs that it set out to do and never tried; 0 where it does not say.
        policy_text: The policy that its plan named, as it was then; ``None``: the plan named none.
        left_for_another_host: Cases of its plan that its host has no GPU for.
    """

    session_id: str
    plan_name: str
    started_at: datetime
    label: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    runs: int = 0
    valid_runs: int = 0
    missing_runs: int = 0
    policy_text: str | None = None
    left_for_another_host: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it did what it set out to do, as far as is known: one that was cancelled or killed did not."""
        return self.missing_runs == 0

    @property
    def short(self) -> str:
        """The id's first 13 characters: enough to tell sessions apart that are a millisecond apart."""
        return self.session_id[:13]

    @property
    def title(self) -> str:
        """Label, commit and date, for a sentence."""
        parts = [self.short, self.label, self.git_commit[:10] if self.git_commit else None]
        return f"{' '.join(part for part in parts if part)} ({self.started_at:%Y-%m-%d %H:%M} UTC)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run, as far as the verdict needs it.

    Attributes:
        run_id: Its id.
        session_id: The session that it belongs to.
        case_key: The case.
        series_id: Hash of the identity.
        identity: The identity as JSON, to name what differs.
        status: How it ended.
        valid: Whether it may enter a verdict.
        reasons: Validity reasons that hold.
        failure: Why it has no result; ``None`` when it has one.
        metrics: Metric key → value with its within-run interval.
        facets: Environment: may differ between arms, and explains.
        fingerprint: Structure of the engine; ``None`` where not read.
    """

    run_id: str
    session_id: str
    case_key: str
    series_id: str
    identity: Json
    status: RunStatus
    valid: bool
    reasons: tuple[Reason, ...] = ()
    failure: Failure | None = None
    metrics: dict[str, MetricValue] = field(default_factory=dict)
    facets: Json = field(default_factory=dict)
    fingerprint: str | None = None

    @property
    def broken(self) -> bool:
        """Whether the thing under test failed in this run."""
        return self.status is RunStatus.FAILED or any(reason.code in BROKEN_REASONS for reason in self.reasons)

    @property
    def is_server(self) -> bool:
        """Whether requests are sent to it: then its latency is that of the first token."""
        return bool(self.identity.get("load"))

    @property
    def rejected_by(self) -> dict[str, str | None]:
        """Return code → remedy of what keeps this run from counting: its failure, else the reasons against it."""
        if self.valid:
            return {}
        if self.failure is not None:
            return {self.failure.code: self.failure.remedy}
        codes = [reason.code for reason in self.reasons if reason.effect is ValidityEffect.REJECT]
        return {code: REASONS[code].remedy for code in codes}

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, or ``None`` where the run has none."""
        found = self.metrics.get(metric)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a comparison: the runs of one or several sessions.

    Attributes:
        ref: What the user asked for.
        sessions: Its sessions, oldest first.
        runs: All their runs, valid or not, in the order of their ids.
        stored: Whether they lie in the store (a folder of bundles does not).
    """

    ref: str
    sessions: tuple[SessionFacts, ...]
    runs: tuple[RunFacts, ...]
    stored: bool = True

    @property
    def session_ids(self) -> tuple[str, ...]:
        """Ids of the sessions, oldest first."""
        return tuple(session.session_id for session in self.sessions)

    @property
    def newest(self) -> SessionFacts:
        """The session that a verdict is stored under."""
        return self.sessions[-1]

    @property
    def title(self) -> str:
        """What to call this arm in a sentence."""
        more = f" and {len(self.sessions) - 1} more" if len(self.sessions) > 1 else ""
        return f"{self.newest.title}{more}"

    @property
    def left_for_another_host(self) -> frozenset[str]:
        """Cases that no session of this arm has run, because its host has no GPU for them."""
        left = {case for session in self.sessions for case in session.left_for_another_host}
        return frozenset(left - {run.case_key for run in self.runs})

    def of_case(self, case_key: str) -> tuple[RunFacts, ...]:
        """Return the runs of one case."""
        return tuple(run for run in self.runs if run.case_key == case_key)


History = dict[tuple[str, str], tuple[float, ...]]
"""(series id, metric) → values of earlier valid runs outside both arms, oldest first."""
