"""Phases of a build: how long each took, and cancelling a build that takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

_REPORT_NS = 250_000_000
_MAX_PHASES = 200


@dataclass(slots=True, kw_only=True)
class BuildPhase:
    """One phase as TensorRT names it, all its passes together.

    Attributes:
        name: As TensorRT says it.
        parent: The phase around it; ``None`` for the whole build.
        passes: How often it was entered.
        steps: Steps of all passes.
        duration_ns: Time in it, its inner phases included.
    """

    name: str
    parent: str | None
    passes: int = 0
    steps: int = 0
    duration_ns: int = 0


class BuildProgress:
    """What a progress monitor hears; TensorRT calls it from several threads.

    Args:
        timeout_s: The build is cancelled at the first step after so many seconds.
        report: Called at most four times a second with the number of steps done.
        now_ns: Monotonic clock.
    """

    def __init__(
        self, timeout_s: float, report: Callable[[int], None], now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.cancelled = False
        self.steps = 0
        self._now_ns, self._report = now_ns, report
        self._began_ns = self._reported_ns = now_ns()
        self._deadline_ns = self._began_ns + round(timeout_s * 1e9)
        self._open: dict[str, list[tuple[str | None, int]]] = {}
        self._phases: dict[tuple[str, str | None], BuildPhase] = {}
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Note that a phase began."""
        with self._lock:
            self._open.setdefault(name, []).append((parent, self._now_ns()))
            phase = self._phases.setdefault((name, parent), BuildPhase(name=name, parent=parent))
            phase.passes += 1
            phase.steps += steps

    def step(self) -> bool:
        """Note that a step is done; ``False`` cancels the build."""
        now = self._now_ns()
        with self._lock:
            self.steps += 1
            due = now - self._reported_ns >= _REPORT_NS
            if due:
                self._reported_ns = now
        if due:
            self._report(self.steps)
        if now >= self._deadline_ns:
            self.cancelled = True
        return not self.cancelled

    def finish(self, name: str) -> None:
        """Note that a phase ended; a cancelled build ends phases early, and may end one twice."""
        with self._lock:
            begun = self._open.get(name)
            if begun:
                parent, start_ns = begun.pop()
                self._phases[name, parent].duration_ns += self._now_ns() - start_ns

    def phases(self) -> list[BuildPhase]:
        """Return the phases in the order in which they first began; those without an end have no time."""
        return list(self._phases.values())[:_MAX_PHASES]


def progress_monitor(module: ModuleType, progress: BuildProgress) -> Any:  # noqa: ANN401 - TensorRT ships no types
    """Return an ``IProgressMonitor`` that tells ``progress``; the caller keeps it alive while the build runs."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step()

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
