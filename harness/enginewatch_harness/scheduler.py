"""Run a plan at its times with the ``schedule`` package; what was served survives a restart."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import schedule

from enginewatch_db.workspace import Workspace
from enginewatch_harness.due import first_due, next_due, with_jitter
from enginewatch_harness.plan_file import PlanFile, ScheduleTable
from enginewatch_harness.process import run_tool

TICK_S = 1.0
TURN_WAIT_S = 6 * 3600
STATE_WAIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the state file holds for one plan.

    Attributes:
        due: Due time that was served last, ISO 8601 with zone.
        exit_code: How its session ended; ``None`` while it runs.
    """

    due: str
    exit_code: int | None


def read_state(path: Path) -> dict[str, Served]:
    """Return plan name → what was served last; an unreadable file counts as empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: Served(**facts) for name, facts in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_state(path: Path, state: dict[str, Served]) -> None:
    """Replace the state file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump({name: {"due": item.due, "exit_code": item.exit_code} for name, item in state.items()}, handle)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def run_in_child(plan_path: Path, workspace: Workspace) -> int:
    """Run one session in a process of its own, so that its end is never ours; return its exit code."""
    logs = workspace.create().work / "schedule"
    logs.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "enginewatch_harness.cli", "run", str(plan_path), "--store", str(workspace.root)]
    # Another plan's session may be under way: this one waits for its turn.
    argv += ["--progress", "plain", "--trigger", "schedule", "--wait-s", str(TURN_WAIT_S)]
    return run_tool(argv, log_prefix=logs / plan_path.stem).returncode


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """One plan and its rule. ``start_session`` and ``now`` are given so that tests need neither time nor runs.

    A session runs to its end before the next due time is looked at, so two never overlap; a due time that passes
    meanwhile is served once, afterwards, when ``catch_up`` is on.
    """

    plan: PlanFile
    rule: ScheduleTable
    plan_path: Path
    workspace: Workspace
    say: Callable[[str], None]
    start_session: Callable[[Path, Workspace], int] = run_in_child
    now: Callable[[], datetime] = field(default=lambda: datetime.now().astimezone())
    _jobs: schedule.Scheduler = field(default_factory=schedule.Scheduler)
    _due: datetime | None = None

    @property
    def state_path(self) -> Path:
        """Where the state lies."""
        return self.workspace.root / "schedule.json"

    def start(self) -> datetime:
        """Work out the first due time from the state and arm the job; return when it will run."""
        served = read_state(self.state_path).get(self.plan.name)
        last = datetime.fromisoformat(served.due) if served else None
        if served is not None and served.exit_code is None:
            self.say(f"the session that was due at {served.due} did not end; it can be resumed by hand")
        return self._arm(first_due(self.rule, last, self.now()))

    def _arm(self, due: datetime) -> datetime:
        self._due = due
        at = with_jitter(self.rule, due, self.plan.seed)
        self._jobs.clear()
        job = self._jobs.every(1).seconds.do(self._serve)
        # The package counts from now and forgets at exit; the due time is ours, it only waits for it.
        job.next_run = at.replace(tzinfo=None)
        self.say(f"next session of {self.plan.name}: {at:%Y-%m-%d %H:%M:%S %Z}")
        return at

    def _serve(self) -> None:
        due = self._due or self.now()
        self._note(Served(due=due.isoformat(), exit_code=None))
        code = self.start_session(self.plan_path, self.workspace)
        self._note(Served(due=due.isoformat(), exit_code=code))
        self.say(f"session of {self.plan.name} ended with exit code {code}")
        self._arm(first_due(self.rule, due, self.now()) if self.rule.catch_up else next_due(self.rule, self.now()))

    def _note(self, served: Served) -> None:
        # Several plans share the file: each reads what is there now and replaces its own entry.
        with self.workspace.lock("schedule", wait_s=STATE_WAIT_S, busy="another scheduler writes its state"):
            write_state(self.state_path, {**read_state(self.state_path), self.plan.name: served})

    def tick(self) -> bool:
        """Serve what is due; return whether a session ran."""
        due = [job for job in self._jobs.jobs if job.next_run and job.next_run <= self.now().replace(tzinfo=None)]
        for job in due:
            job.run()  # type: ignore[no-untyped-call]
        return bool(due)

    def run_forever(self, sessions: int | None) -> None:
        """Serve the rule until ``sessions`` sessions ran; ``None``: for ever.

        Raises:
            StoreLockedError: Another scheduler serves the same plan with this store.
        """
        busy = f"another scheduler serves plan {self.plan.name!r}"
        with self.workspace.lock(f"schedule-{self.plan.name}", wait_s=0.0, busy=busy):
            self._serve_all(sessions)

    def _serve_all(self, sessions: int | None) -> None:
        self.start()
        served = 0
        while sessions is None or served < sessions:
            served += self.tick()
            time.sleep(TICK_S)
