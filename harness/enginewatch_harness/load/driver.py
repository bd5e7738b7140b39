"""One load on one event loop: sends requests by the spec, keeps time, and stops when there is no more to learn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.model import Phase
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.arrivals import OPEN_MODES
from enginewatch_harness.load.client import Client
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.target import Target
from enginewatch_harness.load.timer import LatenessWatch, Timer

NEVER_NS = 1 << 62
TICK_NS = 5_000_000
"""Period of the lateness watch: 200 ticks a second cost under half a percent of a core."""

EXPIRE_EVERY_TICKS = 10
PROGRESS_EVERY_TICKS = 50
ERROR_PAUSE_S = 0.1
"""A stream of the closed loop waits this long after a failure, so that a dead server is not hammered."""

GIVE_UP_AFTER = 50
"""Failures in a row, per stream, after which no later request will succeed either."""

OPEN_LOOP_SPARES = 8
"""Idle connections that an open loop holds ready; it opens more as it needs them."""

_RECENT = 101
SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadUsage:
    """What this thread has used so far.

    Attributes:
        at_ns: When it was read.
        cpu_ns: CPU time.
        waited_ns: Time that it could have run and had no core; ``None`` where the kernel does not tell.
    """

    at_ns: int
    cpu_ns: int
    waited_ns: int | None


def thread_usage(now_ns: int) -> ThreadUsage:
    """Read what the calling thread has used (proc_pid_schedstat: second field, time on a run queue)."""
    try:
        waited_ns = int(SCHEDSTAT.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        waited_ns = None
    return ThreadUsage(at_ns=now_ns, cpu_ns=time.thread_time_ns(), waited_ns=waited_ns)


def spare_connections(spec: LoadSpec) -> int:
    """Return how many idle connections are held ready; a server needs room for these and ``concurrency``."""
    return min(spec.concurrency, OPEN_LOOP_SPARES) if spec.mode in OPEN_MODES else spec.concurrency


class Driver:
    """Runs the phases of a load. Times are monotonic nanoseconds.

    A request belongs to the phase in which it starts (open loop: is due). With a duration, the load goes on
    after the measuring window until the last request of the window has ended, so that it ends under the same
    load as the others; the requests that only kept the load up are then cancelled. With a fixed number of
    requests, sending ends after the last of them, and the window ends with the last answer.

    Args:
        target: Where to.
        spec: How requests arrive.
        warmup_s: Seconds before the measuring phase.
        duration_s: Seconds of the measuring phase, unless ``spec.requests`` ends it.
        arrivals: Offsets of the open loop in ns; ``None`` in the closed loop.
        request: Number → the request's bytes.
        on_phase: Called when a phase begins.
        on_progress: Called now and then with the completed requests of the measuring phase and the median of
            the latest ones' E2E in ms.
    """

    def __init__(
        self,
        target: Target,
        spec: LoadSpec,
        *,
        warmup_s: float,
        duration_s: float,
        arrivals: Iterator[int] | None,
        request: Callable[[int], bytes],
        on_phase: Callable[[Phase], None],
        on_progress: Callable[[int, float | None], None],
    ) -> None:
        self._target, self._spec = target, spec
        self._warmup_ns, self._duration_ns = round(warmup_s * 1e9), round(duration_s * 1e9)
        self._arrivals, self._request = arrivals, request
        self._on_phase, self._on_progress = on_phase, on_progress
        self._open = spec.mode in OPEN_MODES
        self.exchanges: list[Exchange] = []
        self.begin_ns = NEVER_NS
        self.end_ns = NEVER_NS
        self.usage: dict[Phase, ThreadUsage] = {}
        self.server_died: str | None = None
        self.gave_up: str | None = None
        self._phase = Phase.PREFLIGHT
        self._next_idx = 0
        self._measure_left = spec.requests
        self._measure_open = 0
        self._completed = 0
        self._answered = False
        self._failed_in_row = 0
        self._ticks = 0
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)

    async def run(self) -> None:
        """Send, measure, drain; returns when every request has ended."""
        loop = asyncio.get_running_loop()
        self._loop, self._stopped = loop, asyncio.Event()
        self._client = Client(
            self._target, limit=self._spec.concurrency, spares=spare_connections(self._spec), on_done=self._done
        )
        await self._client.open_connections()
        started_ns = time.monotonic_ns()
        self.begin_ns = started_ns + self._warmup_ns
        if self._spec.requests is None:
            self.end_ns = self.begin_ns + self._duration_ns
        self._enter(Phase.WARMUP, started_ns)
        self.watch = LatenessWatch(loop, time.monotonic_ns, TICK_NS, self._tick)
        self._sender = Timer(loop, self._send_due)
        try:
            if self._open:
                self._origin_ns = started_ns
                self._schedule_next()
            else:
                for stream in range(self._spec.concurrency):
                    self._next_of(stream)
            await self._stopped.wait()
        finally:
            self._stopped.set()
            self._sender.close()
            self.watch.close()
            await self._client.close()

    @property
    def resent(self) -> int:
        """Requests sent again because the server had closed an idle connection."""
        return self._client.resent

    # --- phases

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self._phase = phase
        self.usage[phase] = thread_usage(now_ns)
        self._on_phase(phase)

    def _advance(self, now_ns: int) -> None:
        if self._phase is Phase.WARMUP and now_ns >= self.begin_ns:
            self._enter(Phase.MEASURE, now_ns)
        if self._phase is Phase.MEASURE and now_ns >= self.end_ns:
            self._enter(Phase.DRAIN, now_ns)
        overdue = now_ns > self.end_ns + round(self._target.timeout_s * 1e9)
        if self._phase is Phase.DRAIN and (self._measure_open == 0 or overdue):
            self._stopped.set()

    def _phase_of(self, start_ns: int) -> str:
        if start_ns < self.begin_ns:
            return Phase.WARMUP.value
        return Phase.MEASURE.value if start_ns < self.end_ns else Phase.DRAIN.value

    def _tick(self, now_ns: int) -> None:
        self._ticks += 1
        self._advance(now_ns)
        if self._ticks % EXPIRE_EVERY_TICKS == 0:
            self._client.expire(now_ns)
        if self._ticks % PROGRESS_EVERY_TICKS == 0:
            self._on_progress(self._completed, statistics.median(self._recent_ms) if self._recent_ms else None)

    # --- sending

    def _launch(self, start_ns: int, *, stream: int | None = None, intended_ns: int | None = None) -> None:
        phase = self._phase_of(start_ns)
        if phase == Phase.MEASURE.value:
            self._measure_open += 1
            if self._measure_left is not None:
                self._measure_left -= 1
        idx, self._next_idx = self._next_idx, self._next_idx + 1
        body = self._request(idx)
        exchange = Exchange(idx=idx, phase=phase, body=body, stream=stream, intended_ns=intended_ns, start_ns=start_ns)
        self._client.submit(exchange)

    def _next_of(self, stream: int) -> None:
        if not self._stopped.is_set() and self._measure_left != 0:
            self._launch(time.monotonic_ns(), stream=stream)

    def _schedule_next(self) -> None:
        assert self._arrivals is not None  # noqa: S101 (an open loop is made with its arrivals)
        self._due_ns = self._origin_ns + next(self._arrivals)
        self._sender.arm(self._due_ns)

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._due_ns <= now_ns and self._measure_left != 0 and not self._stopped.is_set():
            self._launch(self._due_ns, intended_ns=self._due_ns)
            self._schedule_next()

    # --- answers

    def _done(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        exchange.body = b""
        if exchange.phase == Phase.MEASURE.value:
            self._measure_open -= 1
            if exchange.ok:
                self._completed += 1
                self._recent_ms.append((exchange.content_ns[-1] - exchange.start_ns) / 1e6)
            if self._measure_left == 0 and self._measure_open == 0 and self.end_ns == NEVER_NS:
                self.end_ns = exchange.end_ns + 1  # the window's end is exclusive, and its last token counts
        self._judge(exchange)
        self._advance(time.monotonic_ns())
        if exchange.stream is None or self._stopped.is_set():
            return
        if exchange.ok:
            self._next_of(exchange.stream)
        else:
            self._loop.call_later(ERROR_PAUSE_S, self._next_of, exchange.stream)

    def _judge(self, exchange: Exchange) -> None:
        """Stop early where nothing can succeed any more."""
        if exchange.ok:
            self._answered, self._failed_in_row = True, 0
            return
        if exchange.error_class is ErrorClass.CANCELLED:
            return
        self._failed_in_row += 1
        if exchange.error_class is ErrorClass.CONNECT_REFUSED and self._answered:
            self.server_died = self.server_died or f"connections are refused since request {exchange.idx}"
        elif self._failed_in_row >= GIVE_UP_AFTER * self._spec.concurrency:
            self.gave_up = self.gave_up or f"{self._failed_in_row} requests in a row failed: {exchange.error}"
        if self.server_died or self.gave_up:
            self.end_ns = min(self.end_ns, max(self.begin_ns, exchange.end_ns))
            self._stopped.set()
