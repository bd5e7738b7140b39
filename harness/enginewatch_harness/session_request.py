"""What a session is asked to do, and what it brought. Facts, without I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from enginewatch_db.errors import PlanError, UsageError
from enginewatch_db.ingest import IngestReport
from enginewatch_db.model import Failure, Json, RunRecord, RunStatus
from enginewatch_harness.gpu_choice import place
from enginewatch_harness.gpu_devices import host_gpus, uses_gpu
from enginewatch_harness.matrix import Case, expand
from enginewatch_harness.option_check import check_options
from enginewatch_harness.plan_file import PlanFile
from enginewatch_harness.registry import backend_names


class CaseSource(Protocol):
    """Decides what a session runs while it runs, instead of a plan's matrix: a search looks at what it found.

    Attributes:
        total: Runs that the session will have, or at most; for its progress.
        estimate_s: Seconds that they take, about.
    """

    total: int
    estimate_s: float

    def next_block(self, records: tuple[RunRecord, ...]) -> tuple[Case, ...]:
        """Return the cases to run next, each once and in a random order; none when the session is over.

        Args:
            records: The runs of the session so far, in their order.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """What the user asked for.

    Attributes:
        plan: The plan.
        plan_path: Its file: relative paths in it start from its folder.
        plan_sha256: Hash of its text.
        label: Free name of the session, usable as a REF.
        resume: Go on with the newest unfinished session of this plan.
        cases: Restrict to the cases whose key contains one of these texts; empty: all.
        inject: Test-only: part of a case key → extra milliseconds in each of its inferences.
        trigger: Who started it: ``cli`` or ``schedule``.
        wait_s: How long to wait for another session on this store to end.
        only: Exact keys of the cases, for a session that goes on; empty: all.
        device: UUID of the GPU to use, instead of the plan's; ``None``: the first that fits.
        source: What decides the cases while the session runs; ``None``: the plan. Such a session cannot be resumed.
    """

    plan: PlanFile
    plan_path: Path
    plan_sha256: str
    label: str | None = None
    resume: bool = False
    cases: tuple[str, ...] = ()
    inject: dict[str, float] = field(default_factory=dict)
    trigger: str = "cli"
    wait_s: float = 0.0
    only: tuple[str, ...] = ()
    device: str | None = None
    source: CaseSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOutcome:
    """What a session brought.

    Attributes:
        records: All runs of the session, those of an earlier attempt included.
        ingested: What the last pass over the spool did.
        wall_s: From start to end.
        stage_s: Seconds per stage: ``prepare``, ``build``, ``measure``, ``ingest``.
        left: Case → why it is left for another host.
    """

    session_id: str
    records: tuple[RunRecord, ...]
    ingested: IngestReport
    wall_s: float
    stage_s: dict[str, float]
    left: dict[str, str] = field(default_factory=dict)


def plan_cases(request: SessionRequest) -> tuple[Case, ...]:
    """Return the cases that the request asks for, with what is to be injected, each placed on this host's GPUs.

    Raises:
        PlanError: The matrix is impossible, an option is unknown or has a bad value, or no case fits
            ``request.cases``.
        UnfitError: The device that the request asks for is not here.
    """
    if request.source is not None:
        return ()
    expanded = expand(request.plan, backend_names(), uses_gpu=uses_gpu, products=lambda: host_gpus().products)
    cases = tuple(case for case in expanded if not request.only or case.key in request.only)
    if request.cases:
        chosen = tuple(case for case in cases if any(part in case.key for part in request.cases))
        if not chosen:
            known = ", ".join(case.key for case in cases[:6])
            raise PlanError(f"no case fits {', '.join(request.cases)!r}", remedy=f"the cases are {known}, ...")
        cases = chosen
    for part in request.inject:
        if not any(part in case.key for case in cases):
            known = ", ".join(case.key for case in cases)
            raise UsageError(f"--inject {part!r} fits no case", remedy=f"the cases are {known}")

    def injected(case: Case) -> Case:
        delays = [delay_ms for part, delay_ms in request.inject.items() if part in case.key]
        return replace(case, options={**case.options, "inject_delay_ms": sum(delays)}) if delays else case

    cases = tuple(injected(case) for case in cases)
    for case in cases:
        check_options(case, request.plan)
    # Where nothing runs on a GPU no driver is asked: that takes seconds where it is not kept loaded.
    device = request.device or request.plan.device
    return place(cases, host_gpus(), device) if any(case.on_gpu for case in cases) else cases


def plan_text(path: Path, sha256: str) -> str | None:
    """Return the text of a plan, so that what it built can be built again; ``None`` where the file is not that plan."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content.decode("utf-8", errors="replace") if hashlib.sha256(content).hexdigest() == sha256 else None


def policy_text(request: SessionRequest, folder: Path) -> str | None:
    """Return the text of the policy that the plan names, so that it judges these runs later too; ``None``: none.

    Raises:
        PlanError: The file cannot be read.
    """
    name = request.plan.policy
    if name is None:
        return None
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"the plan's policy {folder / name} cannot be read: {error}", remedy="correct policy in the plan"
        ) from error


def failed_cases(records: tuple[RunRecord, ...]) -> dict[str, Failure]:
    """Return case → failure for the cases that have a failed run and no good one."""
    good = {record.case_key for record in records if record.status is RunStatus.OK}
    return {
        record.case_key: record.failure
        for record in records
        if record.failure is not None and record.status is RunStatus.FAILED and record.case_key not in good
    }


def as_begun(request: SessionRequest, session: Json) -> SessionRequest:
    """Return the request of an unfinished session: what it set out to do, not what the command line leaves out."""
    plan = request.plan.model_copy(update={"repeats": int(session["repeats"])})
    return replace(
        request,
        plan=plan,
        only=tuple(session["cases"]),
        inject=dict(session.get("inject") or {}),
        device=session.get("device"),
    )
