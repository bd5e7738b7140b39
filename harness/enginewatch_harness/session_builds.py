"""The builds of a session: every engine once, or as often as the plan asks, in a worker and through the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from enginewatch_db.errors import BackendError, DiskFullError, EnginewatchError
from enginewatch_db.model import EngineRecord, Failure
from enginewatch_db.workspace import Workspace
from enginewatch_harness import events
from enginewatch_harness.engine_cache import keep_beside, obtain
from enginewatch_harness.prepare import Prepared
from enginewatch_harness.registry import backend
from enginewatch_harness.wire import WorkOrder
from enginewatch_harness.workers import run_worker

BUILD_TIMEOUT_S = 2 * 3600.0
"""Longer than any backend's own limit (``build_timeout_s``), which says better what was too slow."""

KEY_OPTIONS = "key_options"
"""Place in an engine's ``details`` of the options that its key depends on."""


@dataclass(slots=True, kw_only=True)
class Builds:
    """The engines of a session, and those that could not be built.

    Attributes:
        scratch: Makes an empty scratch folder of the given name.
        per_case: How often each engine is built: builds are not deterministic.
        engines: Engine key and build number → the engine.
        broken: Case key and build number → why there is no engine.
    """

    workspace: Workspace
    listen: events.Listener
    scratch: Callable[[str], Path]
    per_case: int = 1
    engines: dict[tuple[str, int], tuple[EngineRecord, Path]] = field(default_factory=dict)
    broken: dict[tuple[str, int], Failure] = field(default_factory=dict)

    def of_repeat(self, repeat: int) -> int:
        """Return which build the run of a repeat uses."""
        return repeat % self.per_case

    def engine(self, item: Prepared, repeat: int) -> tuple[EngineRecord | None, Path | None]:
        """Return the engine that the run of a repeat uses; ``None`` twice where the backend has none."""
        built = self.engines.get((str(item.engine_key), self.of_repeat(repeat)))
        return (None, None) if built is None else built

    def build_all(self, ready: dict[str, Prepared]) -> None:
        """Build what is not in the cache; a failure belongs to its cases, and the rest goes on.

        Raises:
            DiskFullError: No space left for an engine.
        """
        keys = dict.fromkeys(item.engine_key for item in ready.values() if item.engine_key)
        wanted = [(key, number) for key in keys for number in range(self.per_case)]
        unbuildable: dict[str, Failure] = {}
        for item in ready.values():
            key = item.engine_key
            for number in range(self.per_case):
                failure = item.failure
                if key and (key, number) not in self.engines:
                    place = wanted.index((key, number)) + 1
                    failure = unbuildable.get(key) or self._build(item, key, number, place, len(wanted))
                if failure is not None:
                    self.broken[item.case.key, number] = failure
                    unbuildable.update({key: failure} if key else {})

    def _build(self, item: Prepared, key: str, number: int, place: int, total: int) -> Failure | None:
        which = {"build": number + 1, "builds": self.per_case}
        self.listen(events.Building(case_key=item.case.key, number=place, total=total, **which))
        try:
            record, path = obtain(
                self.workspace,
                key,
                lambda target: self._in_worker(item, target),
                build_number=number,
                note=lambda text: self.listen(events.Note(text=text)),
            )
        except BackendError as error:
            if error.code == "disk_full":
                raise DiskFullError(error.message, remedy=error.remedy) from error
            return Failure(code=error.code, message=error.message, remedy=error.remedy)
        self.engines[key, number] = (registered(record, item), path)
        self.listen(events.Built(case_key=item.case.key, build_time_s=record.build_time_s, **which))
        return None

    def _in_worker(self, item: Prepared, target: Path) -> EngineRecord:
        job = item.job
        if job is None:
            raise EnginewatchError(f"{item.case.key} was not prepared")
        scratch = self.scratch(f"build-{item.engine_key}")
        work = WorkOrder(
            action="build", backend=item.case.backend, job=job, engine_path=target, cache_dir=self.workspace.cache
        )
        result, _ = run_worker(scratch, work, timeout_s=BUILD_TIMEOUT_S, on_progress=lambda *_: None)
        if result.engine is None:
            failure = result.failure or Failure(code="build_failed", message=f"no engine for {item.case.key}")
            raise BackendError(failure.message, code=failure.code, remedy=failure.remedy)
        given = job.options.get("timing_cache")
        keep_beside(target, scratch, Path(given) if isinstance(given, str) else None)
        shutil.rmtree(scratch, ignore_errors=True)
        built_at = result.engine.built_at or datetime.now(UTC).isoformat()
        return registered(replace(result.engine, built_at=built_at), item)


def registered(record: EngineRecord, item: Prepared) -> EngineRecord:
    """Return the record with what its backend does not know: model, device, and what its key was made of."""
    options = (backend(item.case.backend).engine_options(item.job) if item.job is not None else None) or {}
    # Only where the engine depends on them: an engine of any shape was not built for its first case's.
    shapes = dict(options.get("shapes") or {})
    bound = item.case.bound
    return replace(
        record,
        details={KEY_OPTIONS: options, **record.details},
        model=record.model or item.case.model.name,
        model_sha256=record.model_sha256 or item.model_sha256,
        backend=record.backend or item.case.backend,
        tool_version=record.tool_version or item.availability.version,
        device=record.device or item.device,
        compute_capability=record.compute_capability or (bound.compute_capability if bound else None),
        precision=record.precision or item.case.precision,
        shapes=record.shapes or {name: list(dims) for name, dims in shapes.items()},
    )
