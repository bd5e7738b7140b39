"""The sampling loop: on each tick read every backend, stamp, check, and pass the readings on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from enginewatch_collector.backends.base import Reading, TelemetryBackend
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.schedule import TickCounter, TickPlan

Wait = Callable[[int], bool]
"""Waits until a time on the monotonic clock; returns early with ``True`` when sampling must stop."""


class Sampler:
    """Drives the backends on the grid of a plan.

    Args:
        backends: Open backends.
        rate_hz: Ticks per second.
        log: Where errors and read times go.
        sink: Takes each reading.
        clock: Monotonic clock in ns.
    """

    def __init__(
        self,
        backends: Sequence[TelemetryBackend],
        rate_hz: float,
        log: QualityLog,
        sink: Callable[[Reading], None],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._backends = backends
        self._log = log
        self._sink = sink
        self._clock = clock
        self.ticks = TickCounter(plan=TickPlan.at_rate(clock(), rate_hz))

    def run(self, wait: Wait, *, on_first: Callable[[], None] | None = None) -> None:
        """Sample until ``wait`` says stop, then read everything once more so that counters span the whole run.

        Args:
            wait: See ``Wait``.
            on_first: Called once, after the first tick.
        """
        plan, index, slow_slot = self.ticks.plan, 0, -1
        while not wait(plan.deadline_ns(index)):
            now_ns = self._clock()
            index = plan.due_index(index, now_ns)
            self.ticks.tick(index, now_ns)
            self._read_fast()
            if plan.slow_slot(index) != slow_slot:
                slow_slot = plan.slow_slot(index)
                self._read_slow()
            if self.ticks.made == 1 and on_first is not None:
                on_first()
            index = plan.due_index(index + 1, self._clock())
        self._read_fast()
        self._read_slow()

    def _read_fast(self) -> None:
        for backend in self._backends:
            for reading in backend.read_fast():
                self._accept(reading)

    def _read_slow(self) -> None:
        for backend in self._backends:
            for reading in backend.read_slow():
                self._accept(reading)

    def _accept(self, reading: Reading) -> None:
        self._log.read_times.add(reading.t_after_ns - reading.t_before_ns)
        bad = [name for name, value in reading.values.items() if isinstance(value, float) and not math.isfinite(value)]
        for name in bad:
            self._log.error(name, "nan", reading.device)
        if bad:
            reading = replace(reading, values={k: v for k, v in reading.values.items() if k not in bad})
        if reading.values:
            self._sink(reading)
