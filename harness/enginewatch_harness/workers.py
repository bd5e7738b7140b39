"""Start a worker, follow its events, and bring its result back, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from enginewatch_db.model import Failure, Json, Phase, PhaseMark
from enginewatch_harness.gpu_choice import environment
from enginewatch_harness.process import start, stop_group, tail
from enginewatch_harness.wire import EVENTS, LOOK_S, NOT_YET, WorkOrder, WorkResult, read_result, write_order

POLL_S = 0.05
_LIMIT = {"measure": "raise measure.timeout_s in the plan", "build": "build a smaller model or with fewer tactics"}
GRACE_S = 5.0
_LOOKS = {Phase.PROFILE: "the profile", Phase.ACCURACY: "the accuracy check"}


@dataclass(slots=True, kw_only=True)
class Followed:
    """What the events of a worker said so far."""

    t0_ns: int = 0
    end_ns: int = 0
    entered: list[tuple[Phase, int]] = field(default_factory=list)
    partial: str = ""

    def take(self, event: Json) -> None:
        """Note one event."""
        self.end_ns = max(self.end_ns, int(event["t_ns"]))
        self.t0_ns = int(event.get("t0_ns", self.t0_ns))
        if "phase" in event:
            self.entered.append((Phase(event["phase"]), int(event["t_ns"])))

    def drain(self, text: str, on_progress: Callable[[int, float | None], None]) -> None:
        """Take the whole lines of ``text``; the beginning of one that is still being written waits for the rest."""
        *lines, self.partial = (self.partial + text).split("\n")
        for line in lines:
            event = json.loads(line)
            self.take(event)
            if "n" in event:
                on_progress(int(event["n"]), event["median_ms"])

    def deadline_s(self, began_s: float, timeout_s: float) -> float:
        """Return when the worker is stopped (monotonic clock): a look inside has ``LOOK_S`` at least."""
        looks = [at_ns / 1e9 + LOOK_S for phase, at_ns in self.entered if phase in _LOOKS]
        return max([began_s + timeout_s, *looks[:1]])

    def phases(self) -> tuple[PhaseMark, ...]:
        """Return the phases: each ends where the next begins."""
        starts = [at for _, at in self.entered]
        ends = [*starts[1:], max(self.end_ns, starts[-1])] if starts else []
        return tuple(
            PhaseMark(name=phase, start_ns=begin, end_ns=end)
            for (phase, begin), end in zip(self.entered, ends, strict=True)
        )


def run_worker(
    folder: Path, order: WorkOrder, *, timeout_s: float, on_progress: Callable[[int, float | None], None]
) -> tuple[WorkResult, Followed]:
    """Run one order in a fresh process and return its result; every end of the process has one.

    A case that is bound to a GPU sees that one alone, as device 0.

    A worker that is killed or does not end in time gives a ``Failure`` with code ``killed`` or ``timeout``; while it
    looked inside after measuring, the measurement and a note. That look has what is left of ``timeout_s``, and
    ``LOOK_S`` at least.
    On ``KeyboardInterrupt`` the whole group is ended before the exception goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_order(folder, order)
    (folder / EVENTS).touch()
    process = start(
        [sys.executable, "-m", "enginewatch_harness.worker", str(folder)],
        stdout=folder / "worker.stdout.log",
        stderr=folder / "worker.stderr.log",
        # Before the process starts: libraries read it once, and every tool that the worker starts inherits it.
        env={**os.environ, **environment(order.job.device_uuid)},
    )
    followed = Followed()
    began_s = time.monotonic()
    timed_out = False
    try:
        with (folder / EVENTS).open(encoding="utf-8") as stream:
            while process.poll() is None and not timed_out:
                followed.drain(stream.read(), on_progress)
                time.sleep(POLL_S)
                overdue = time.monotonic() > followed.deadline_s(began_s, timeout_s)
                timed_out = overdue and process.poll() is None
            followed.drain(stream.read(), on_progress)
    finally:
        returncode = stop_group(process, 0.0 if timed_out else GRACE_S)
    result = read_result(folder)
    if result is None:
        return WorkResult(failure=_failure(folder, order, returncode, timeout_s, timed_out=timed_out)), followed
    if result.early:
        result = _kept(result, _why_early(folder, followed, returncode, timed_out=timed_out))
    return result, followed


def _why_early(folder: Path, followed: Followed, returncode: int, *, timed_out: bool) -> str:
    phase, at_ns = followed.entered[-1]
    what = _LOOKS.get(phase, "what follows the measurement")
    if timed_out:
        took_s = (time.monotonic_ns() - at_ns) / 1e9
        return f"{what} was stopped after {took_s:.0f} s: it took too long; raise measure.timeout_s in the plan"
    if returncode < 0:
        return f"{what} was ended by {signal.Signals(-returncode).name}"
    return f"{what} ended the process with status {returncode}: {_last_line(folder)}"


def _kept(result: WorkResult, why: str) -> WorkResult:
    """Return the early result with why it is all there is."""
    measurement = result.measurement
    if measurement is None:
        return result
    metrics = tuple(
        replace(item, absent_reason=why) if item.absent_reason == NOT_YET else item for item in measurement.metrics
    )
    return replace(result, measurement=replace(measurement, metrics=metrics, notes=(*measurement.notes, why)))


def _last_line(folder: Path) -> str:
    lines = tail(folder / "worker.stderr.log", 400).splitlines()
    return lines[-1] if lines else "no message"


def _failure(folder: Path, order: WorkOrder, returncode: int, timeout_s: float, *, timed_out: bool) -> Failure:
    what = f"{order.action} of {order.job.case_key}"
    if timed_out:
        return Failure(
            code="timeout",
            message=f"the {what} did not end within {timeout_s:g} s",
            remedy=f"{_LIMIT[order.action]}; its logs are in {folder}",
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return Failure(
            code="killed",
            message=f"the {what} was killed by {name}",
            remedy="was memory short? see dmesg; then `enginewatch run PLAN --resume`",
        )
    return Failure(
        code="crashed",
        message=f"the {what} ended with status {returncode}: {_last_line(folder)}",
        remedy=f"read {folder / 'worker.stderr.log'}",
    )
