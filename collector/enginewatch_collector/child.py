"""The collector process itself: samples until it is told to stop, or until its parent is gone."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from enginewatch_collector.backends.base import TelemetryBackend
from enginewatch_collector.backends.registry import open_backends
from enginewatch_collector.config import JOURNAL_FILE, CollectorConfig
from enginewatch_collector.journal import Journal
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.result import finalise
from enginewatch_collector.sampler import Sampler
from enginewatch_db.errors import EnginewatchError
from enginewatch_db.model import Json

_STDIN = 0


class StopSignal:
    """Waits for a deadline, for the line ``stop`` or the end of stdin, for SIGTERM, or for the parent's death.

    SIGINT is ignored: Ctrl-C is the harness's, which then stops the collector in its own order.
    """

    def __init__(self, owner_pid: int) -> None:
        self._owner_pid = owner_pid
        self._wake_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.reason: str | None = None

    def wait(self, deadline_ns: int) -> bool:
        """Wait until the deadline; return ``True`` at once when sampling must stop (``reason`` says why)."""
        while True:
            # the pipe of a parent that was killed stays open while a child forked from it lives: so ask as well
            if os.getppid() != self._owner_pid:
                self.reason = "parent_gone"
                return True
            left_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
            ready, _, _ = select.select([_STDIN, self._wake_fd], [], [], left_s)
            if self._wake_fd in ready:
                self.reason = "terminated"
            elif _STDIN in ready:
                text = os.read(_STDIN, 4096)
                self.reason = "stop" if b"stop" in text else None if text else "stdin_closed"
            if self.reason is not None:
                return True
            if not ready:
                return False


class Collector:
    """One collection: open backends, sampler, journal, and the quality block over all of them."""

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self.log = QualityLog()
        self._backends: list[TelemetryBackend] = open_backends(config.backends, config.options, self.log)
        self._journal = Journal(config.out_dir / JOURNAL_FILE)
        self._sampler = Sampler(self._backends, config.rate_hz, self.log, self._journal.append)
        self._cpu_start_ns = time.process_time_ns()
        self._mono_start_ns, self._wall_start = time.monotonic_ns(), _utc_now()

    def run(self, stop: StopSignal) -> None:
        """Sample until ``stop`` says so; say ``ready`` on stdout after the first tick."""

        def wait(deadline_ns: int) -> bool:
            self._flush_if_due()
            return stop.wait(deadline_ns)

        self._sampler.run(wait, on_first=self._ready)

    def finish(self, *, ended_early: bool, stop_reason: str) -> None:
        """Close the backends and complete the journal."""
        for backend in self._backends:
            backend.close()
        self._flush(ended_early=ended_early, stop_reason=stop_reason)
        self._journal.close()

    def quality(self, *, ended_early: bool, stop_reason: str | None) -> Json:
        """Return the quality block so far."""
        now_ns, ticks, log = time.monotonic_ns(), self._sampler.ticks, self.log
        achieved = ticks.achieved_hz()
        cpu_ns = time.process_time_ns() - self._cpu_start_ns
        return {
            "rate_hz": self._config.rate_hz,
            "achieved_hz": None if achieved is None else round(achieved, 3),
            "ticks_expected": ticks.expected(),
            "ticks_made": ticks.made,
            "late_ticks": ticks.late,
            "gaps": ticks.gaps,
            "max_gap_ms": round(ticks.max_gap_ns / 1e6, 3),
            "read_p50_us": log.read_times.quantile_us(0.5),
            "read_p99_us": log.read_times.quantile_us(0.99),
            "own_cpu_pct": round(100 * cpu_ns / max(1, now_ns - self._mono_start_ns), 3),
            "errors": log.errors_json(),
            "events": list(log.events),
            "events_dropped": log.events_dropped,
            "clock_anchor": {
                "wall_start": self._wall_start,
                "mono_start_ns": self._mono_start_ns,
                "wall_end": _utc_now(),
                "mono_end_ns": now_ns,
            },
            "backends": [backend.name for backend in self._backends],
            "thermal_source": log.labels.get("thermal_source"),
            "power_source": log.labels.get("power_source"),
            "limits": self._limits(),
            "ended_early": ended_early,
            "stop_reason": stop_reason,
        }

    def _limits(self) -> Json:
        keys = ("power_limit_mw", "max_sm_clock_mhz")
        return {
            facts["device"]: {key: facts.get(key) for key in keys}
            for backend in self._backends
            for facts in backend.devices()
            if any(facts.get(key) is not None for key in keys)
        }

    def _ready(self) -> None:
        # on disk before ready is said: from then on a kill leaves something to read
        self._flush(ended_early=True, stop_reason=None)
        _say({"ready": True})

    def _flush_if_due(self) -> None:
        if self._journal.due(time.monotonic_ns()):
            self._flush(ended_early=True, stop_reason=None)

    def _flush(self, *, ended_early: bool, stop_reason: str | None) -> None:
        devices = tuple(facts for backend in self._backends for facts in backend.devices())
        quality = self.quality(ended_early=ended_early, stop_reason=stop_reason)
        try:
            self._journal.flush(time.monotonic_ns(), quality, devices)
        except OSError as error:
            # sampling goes on: the next flush tries again
            self.log.event("journal_not_written", why=str(error))


def main(arguments: Sequence[str]) -> int:
    """Run the collector process; its only argument is the configuration as JSON."""
    config = CollectorConfig.from_json(arguments[0])
    stop = StopSignal(config.options.owner_pid)
    try:
        collector = Collector(config)
    except EnginewatchError as error:
        _say({"ready": False, "message": error.message, "remedy": error.remedy})
        return 1
    try:
        collector.run(stop)
    except Exception as error:  # noqa: BLE001 - process boundary: what was sampled so far is saved and the cause logged
        traceback.print_exc()
        collector.log.event("collector_crashed", why=f"{type(error).__name__}: {error}")
        collector.finish(ended_early=True, stop_reason="crashed")
        return 1
    collector.finish(ended_early=False, stop_reason=stop.reason or "stop")
    if stop.reason != "stop":
        finalise(config.out_dir)  # nobody is there to do it; the parent that says stop has pyarrow loaded already
    return 0


def _say(message: Json) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _utc_now() -> str:
    return datetime.now(tz=UTC).isoformat(timespec="microseconds")
