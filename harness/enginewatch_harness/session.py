"""A session: every case of a plan, interleaved and repeated, one bundle a run, everything in the store.

Whatever happens (Ctrl-C, a killed child, ``kill -9``), a run whose bundle was renamed into the spool counts, and
``--resume`` does what is missing.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from enginewatch_collector.process import CollectorProcess
from enginewatch_db import bundle, ids
from enginewatch_db.errors import BackendError, DiskFullError, EnginewatchError, StorageError, StoreLockedError
from enginewatch_db.ingest import ingest
from enginewatch_db.model import EngineRecord, Failure, Json, RunRecord
from enginewatch_db.workspace import Workspace
from enginewatch_harness import assemble, events, preflight, provenance
from enginewatch_harness.accuracy.check import ELSEWHERE, SWITCHED_OFF
from enginewatch_harness.backends.base import Job
from enginewatch_harness.gpu_choice import left_line, runnable, the_device
from enginewatch_harness.gpu_lease import lease
from enginewatch_harness.journal import Journal
from enginewatch_harness.matrix import Case, Turn, estimate_s, order
from enginewatch_harness.prepare import Prepared, check_models, prepare
from enginewatch_harness.session_builds import Builds
from enginewatch_harness.session_request import (
    SessionOutcome,
    SessionRequest,
    as_begun,
    plan_cases,
    plan_text,
    policy_text,
)
from enginewatch_harness.stages import Stage
from enginewatch_harness.wire import WorkOrder
from enginewatch_harness.workers import run_worker

LAST_INGEST_WAIT_S = 5.0
WORTH_ANOTHER_TRY = frozenset({"killed", "timeout"})
"""Failures of the moment, not of the case: ``--resume`` tries them again."""


def utc_now() -> str:
    """Return the wall time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


def run_session(request: SessionRequest, workspace: Workspace, listen: events.Listener) -> SessionOutcome:
    """Run a whole session and return its outcome.

    Raises:
        PlanError: The plan cannot be obeyed; nothing was measured.
        UnfitError: The machine cannot measure now: nothing of the plan runs here, or another session has the GPU.
        StoreLockedError: Another session measures on this machine with this workspace.
        DiskFullError: A bundle could not be written; the finished runs are kept.
        KeyboardInterrupt: Ctrl-C; the finished runs are in the store.
    """
    folder = request.plan_path.absolute().parent
    runnable(plan_cases(request))
    check_models(request.plan, folder)
    workspace.create()
    preflight.check_host(workspace)
    busy = "another session measures with this store"
    with workspace.lock("session", wait_s=request.wait_s, busy=busy):
        # Before anything is measured: what a killed session left goes in, and a store that cannot be written shows.
        ingest(workspace)
        journal = None
        if request.resume:
            journal = Journal.newest_unfinished(workspace, request.plan.name, request.plan_sha256)
            request = as_begun(request, journal.session)
        cases, left = runnable(plan_cases(request), all_of_them=journal is not None)
        with lease([case.bound for case in cases if case.bound], wait_s=request.wait_s):
            ready = {case.key: prepare(case, plan=request.plan, folder=folder, workspace=workspace) for case in cases}
            journal = journal or _begin(request, workspace, cases, left, folder)
            session = _Session(request=request, workspace=workspace, listen=listen, journal=journal, cases=cases)
            return session.run(ready)


def _begin(
    request: SessionRequest, workspace: Workspace, cases: tuple[Case, ...], left: dict[str, str], folder: Path
) -> Journal:
    session: Json = {
        "started_at": utc_now(),
        "plan_sha256": request.plan_sha256,
        "plan_path": request.plan_path.name,
        "plan_text": plan_text(request.plan_path, request.plan_sha256),
        "policy_text": policy_text(request, folder),
        "builds_per_case": request.plan.builds_per_case,
        "label": request.label,
        "seed": request.plan.seed,
        "repeats": request.plan.repeats,
        "trigger": request.trigger,
        "cases": [case.key for case in cases],
        "left_for_another_host": left,
        "device": the_device(cases) or request.device or request.plan.device,
        "inject": request.inject,
        "speedup_reference": request.plan.speedup.reference if request.plan.speedup else None,
        **provenance.git_facts(folder),
    }
    return Journal.begin(workspace, ids.new_run_id(), request.plan.name, session)


@dataclass(slots=True, kw_only=True)
class _Session:
    """The state of a running session."""

    request: SessionRequest
    workspace: Workspace
    listen: events.Listener
    journal: Journal
    cases: tuple[Case, ...]
    environment: Json = field(default_factory=provenance.environment_facets)
    host: Json = field(default_factory=provenance.host_facts)
    records: list[RunRecord] = field(default_factory=list)
    stage_s: dict[str, float] = field(default_factory=dict)
    builds: Builds = field(init=False)
    spent_s: float = 0.0
    measured: int = 0

    def __post_init__(self) -> None:
        plan = self.request.plan
        self.builds = Builds(
            workspace=self.workspace,
            listen=self.listen,
            scratch=self._scratch,
            per_case=min(plan.builds_per_case, plan.repeats),
        )

    def run(self, ready: dict[str, Prepared]) -> SessionOutcome:
        began = time.monotonic()
        self.records = self.journal.finished_runs(self.workspace)
        turns = order(self.cases, self.request.plan.repeats, int(self.journal.session["seed"]))
        self._announce(turns)
        try:
            with self._stage("build"):
                self.builds.build_all(ready)
            with self._stage("measure"):
                self._measure_all(turns, ready)
                self._measure_blocks(ready)
        except BaseException:
            # Ctrl-C or a full disk: what was measured goes in, and the reason for the end stays the one that is told.
            with contextlib.suppress(StorageError):
                ingest(self.workspace, wait_s=LAST_INGEST_WAIT_S)
            raise
        if self.request.source or not self._repeatable():
            self.journal.finish()
        with self._stage("ingest"):
            report = ingest(self.workspace)
        return SessionOutcome(
            session_id=self.journal.session_id,
            records=tuple(sorted(self.records, key=lambda record: record.order_idx)),
            ingested=report,
            wall_s=time.monotonic() - began,
            stage_s=self.stage_s,
            left=dict(self.journal.session.get("left_for_another_host") or {}),
        )

    def _done(self) -> set[tuple[str, int]]:
        """Return what needs no further attempt: a run that was killed or timed out does."""
        return {
            (record.case_key, record.repeat)
            for record in self.records
            if record.failure is None or record.failure.code not in WORTH_ANOTHER_TRY
        }

    def _repeatable(self) -> bool:
        tried = {(record.case_key, record.repeat) for record in self.records}
        return bool(tried - self._done())

    def _stage(self, name: str) -> Stage:
        return Stage(name=name, into=self.stage_s)

    def _announce(self, turns: tuple[Turn, ...]) -> None:
        source = self.request.source
        self.listen(
            events.Started(
                session_id=self.journal.session_id,
                plan_name=self.request.plan.name,
                cases=len(self.cases),
                total=source.total if source else len(turns),
                done=len(self.records),
                estimate_s=source.estimate_s if source else estimate_s(self.cases, self.request.plan.repeats),
            )
        )
        left = self.journal.session.get("left_for_another_host")
        if left:
            self.listen(events.Note(text=left_line(left)))

    def _scratch(self, name: str) -> Path:
        scratch = self.journal.folder / "runs" / name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        return scratch

    def _measure_blocks(self, ready: dict[str, Prepared]) -> None:
        """Run what the session's source asks for, block by block."""
        request = self.request
        while request.source and (block := request.source.next_block(tuple(self.records))):
            folder = request.plan_path.absolute().parent
            for case in block:
                if case.key not in ready:
                    ready[case.key] = prepare(case, plan=request.plan, folder=folder, workspace=self.workspace)
            self.builds.build_all({case.key: ready[case.key] for case in block})
            first = len(self.records)
            done = [record.case_key for record in self.records]
            turns = tuple(
                replace(turn, repeat=done.count(turn.case.key), order_idx=first + turn.order_idx)
                for turn in order(block, 1, request.plan.seed + first)
            )
            self._measure_all(turns, ready, first=first, total=max(request.source.total, first + len(turns)))
            if len(block) > 1:
                self._ingest_block()

    def _measure_all(
        self, turns: tuple[Turn, ...], ready: dict[str, Prepared], *, first: int = 0, total: int | None = None
    ) -> None:
        done = self._done()
        total = len(turns) if total is None else total
        for number, turn in enumerate(turns, 1):
            key = turn.case.key
            if (key, turn.repeat) in done:
                continue
            build = self.builds.of_repeat(turn.repeat)
            failure = self.builds.broken.get((key, build))
            if failure is not None:
                # One record says it; repeating what cannot work would only fill the history.
                said = [record for record in self.records if record.case_key == key]
                if not any(self.builds.of_repeat(record.repeat) == build for record in said):
                    self._keep(self._failed(turn, ready[key], failure), {}, first + number, total, 0.0)
                continue
            self._measure(turn, ready[key], first + number, total)
            if turn.repeat != turns[min(number, len(turns) - 1)].repeat:
                self._ingest_block()

    def _ingest_block(self) -> None:
        try:
            with self._stage("ingest"):
                ingest(self.workspace, wait_s=0.0)
        except StoreLockedError as error:
            # The bundles are safe in the spool; the next pass takes them.
            self.listen(events.Note(text=str(error)))

    def _measure(self, turn: Turn, item: Prepared, number: int, total: int) -> None:
        left = total - number + 1
        mean_s = self.spent_s / self.measured if self.measured else estimate_s((turn.case,), 1)
        self.listen(
            events.RunStarted(
                case_key=turn.case.key, repeat=turn.repeat, number=number, total=total, eta_s=left * mean_s
            )
        )
        began = time.monotonic()
        record, tables = self._one_run(turn, item)
        wall_s = time.monotonic() - began
        self.spent_s += wall_s
        self.measured += 1
        self._keep(record, tables, number, total, wall_s)

    def _one_run(self, turn: Turn, item: Prepared) -> tuple[RunRecord, dict[str, object]]:
        stamp = self._stamp(turn)
        quiet = preflight.check_quiet()
        scratch = self._scratch(f"{turn.order_idx:04d}")
        engine, engine_path = self.builds.engine(item, turn.repeat)
        collector = self._start_collector(scratch, item.case)
        try:
            work = self._order(item, engine, engine_path)
            result, followed = run_worker(
                scratch,
                work,
                timeout_s=self.request.plan.measure.timeout_s,
                on_progress=lambda n, median_ms: self.listen(
                    events.RunProgress(case_key=turn.case.key, n=n, median_ms=median_ms)
                ),
            )
            telemetry = _stop_collector(collector)
        finally:
            if collector is not None:
                collector.kill()
        if result.measurement is None:
            failure = result.failure or Failure(code="crashed", message=f"{turn.case.key} brought no result")
            if failure.code == "disk_full":
                raise DiskFullError(failure.message, remedy=failure.remedy)
            record = assemble.failed_run(
                stamp,
                item,
                failure,
                ended_at=utc_now(),
                t0_ns=followed.t0_ns,
                phases=followed.phases(),
                engine=engine,
            )
            return record, {}
        record, tables = assemble.finished_run(
            stamp,
            item,
            result.measurement,
            ended_at=utc_now(),
            t0_ns=followed.t0_ns,
            phases=followed.phases(),
            engine=engine,
            sentinel_ns=result.sentinel_ns,
            telemetry=telemetry,
            preflight=quiet,
        )
        shutil.rmtree(scratch, ignore_errors=True)
        return record, dict(tables)

    def _order(self, item: Prepared, engine: EngineRecord | None, engine_path: Path | None) -> WorkOrder:
        job = _job(item)
        fresh = (item.case.key, engine.engine_sha256 if engine else None) not in self._looked_into()
        wanted = bool(job.options.get("accuracy", True))
        return WorkOrder(
            action="measure",
            backend=item.case.backend,
            job=job,
            engine=engine,
            engine_path=engine_path,
            profile=fresh and bool(job.options.get("profile", True)),
            accuracy=fresh and wanted,
            no_accuracy=ELSEWHERE if wanted else SWITCHED_OFF,
            cache_dir=self.workspace.cache,
            timeout_s=self.request.plan.measure.timeout_s,
        )

    def _looked_into(self) -> set[tuple[str, str | None]]:
        """Return which engines a measured run of this session has looked into."""
        return {
            (record.case_key, record.engine.engine_sha256 if record.engine else None)
            for record in self.records
            if record.failure is None
        }

    def _start_collector(self, scratch: Path, case: Case) -> CollectorProcess | None:
        settings, gpu = self.request.plan.collector, case.bound
        try:
            return CollectorProcess.start(
                scratch / "telemetry",
                backends=tuple(settings.backends),
                rate_hz=settings.rate_hz,
                gpu_uuid=gpu.gpu_uuid if gpu else None,
                gpu_instance=gpu.gpu_instance if gpu else None,
            )
        except BackendError as error:
            self.listen(events.Note(text=f"no telemetry for this run: {error}"))
            return None

    def _stamp(self, turn: Turn) -> assemble.Stamp:
        return assemble.Stamp(
            run_id=ids.new_run_id(),
            session_id=self.journal.session_id,
            plan_name=self.request.plan.name,
            repeat=turn.repeat,
            order_idx=turn.order_idx,
            started_at=utc_now(),
            environment=self.environment,
            host=self.host,
            session=self.journal.session,
        )

    def _failed(self, turn: Turn, item: Prepared, failure: Failure) -> RunRecord:
        return assemble.failed_run(self._stamp(turn), item, failure, ended_at=utc_now(), t0_ns=time.monotonic_ns())

    def _keep(self, record: RunRecord, tables: dict[str, object], number: int, total: int, wall_s: float) -> None:
        bundle.write(self.workspace.spool, record, tables)
        self.records.append(record)
        self.listen(events.RunFinished(record=record, number=number, total=total, wall_s=wall_s))


def _job(item: Prepared) -> Job:
    if item.job is None:
        raise EnginewatchError(f"{item.case.key} was not prepared")
    return item.job


def _stop_collector(collector: CollectorProcess | None) -> assemble.Telemetry | None:
    if collector is None:
        return None
    try:
        result = collector.stop()
    except BackendError:
        # The run itself is whole; it gets the reason telemetry_absent.
        return None
    return assemble.Telemetry(table=result.table, quality=result.quality, devices=result.devices)
