"""One load on one event loop: sends requests by the spec, keeps time, and stops when there is no more to learn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from enginewatch_db.model import Phase
from enginewatch_harness.load.client import Client
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.spec import CLOSED, LoadSpec
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.tickets import EMPTY, Tickets
from enginewatch_harness.load.timer import LatenessWatch, Timer
from enginewatch_harness.load.usage import ThreadUsage, thread_usage
from enginewatch_harness.load.workload import PlannedRequest, Workload

NEVER_NS = 1 << 62
TICK_NS = 5_000_000
"""Period of the lateness watch: 200 ticks a second cost under half a percent of a core."""

EXPIRE_EVERY_TICKS = 10
PROGRESS_EVERY_TICKS = 50
ERROR_PAUSE_NS = 100_000_000
"""A stream of the closed loop waits this long after a failure, so that a dead server is not hammered."""

GIVE_UP_AFTER = 50
"""Failures in a row, per stream, after which no later request will succeed either."""

OPEN_LOOP_SPARES = 8
"""Idle connections that an open loop holds ready; it opens more as it needs them."""

START_GAP_NS = 100_000
"""Streams of the closed loop start this far apart: a burst of all at once would be written one after the other
anyway, while nothing is read, and equal answers would keep the burst together for the whole load."""

READY_AHEAD = 256
OPEN_READY_AHEAD = 4
READY_PER_TICK = 8
"""Requests are spelt before they are due, a few a tick, so that spelling delays neither a send nor a read."""

_RECENT = 101


def spare_connections(spec: LoadSpec) -> int:
    """Return how many idle connections are held ready; a server needs room for these and ``concurrency``."""
    return spec.concurrency if spec.mode == CLOSED else min(spec.concurrency, OPEN_LOOP_SPARES)


class Driver:
    """Runs the phases of a load. Times are monotonic nanoseconds.

    A request belongs to the phase in which it starts (open loop: is due). With a duration, the load goes on
    after the measuring window until the last request of the window has ended, so that it ends under the same
    load as the others; the requests that only kept the load up are then cancelled. With a fixed number of
    requests, sending ends after the last of them, and the window ends with the last answer.

    Args:
        target: Where to.
        spec: How requests arrive, to this process.
        workload: What is asked, and when in an open loop.
        tickets: Which requests are this process's.
        warmup_s: Seconds before the measuring phase.
        duration_s: Seconds of the measuring phase, unless ``spec.requests`` ends it.
        on_phase: Called when a phase begins.
        on_progress: Called now and then with the completed requests of the measuring phase and the median of
            the latest ones' E2E in ms.
    """

    def __init__(
        self,
        target: Target,
        spec: LoadSpec,
        workload: Workload,
        tickets: Tickets,
        *,
        warmup_s: float,
        duration_s: float,
        on_phase: Callable[[Phase], None],
        on_progress: Callable[[int, float | None], None],
    ) -> None:
        self._target, self._spec, self._workload, self._tickets = target, spec, workload, tickets
        self._warmup_ns, self._duration_ns = round(warmup_s * 1e9), round(duration_s * 1e9)
        self._on_phase, self._on_progress = on_phase, on_progress
        self._writer = RequestWriter(target)
        self._arrivals = workload.arrivals()
        # An open loop's numbers are arrivals in order: what one process holds, no other can send in time.
        most = READY_AHEAD if self._arrivals is None else OPEN_READY_AHEAD
        self._ahead = min(spec.concurrency, most)
        self._arrived = -1
        self._last_offset_ns = 0
        self._due_ns = 0
        self._started = 0
        self._armed = False
        self.exchanges: list[Exchange] = []
        self.begin_ns = NEVER_NS
        self.end_ns = NEVER_NS
        self.usage: dict[Phase, ThreadUsage] = {}
        self.server_died: str | None = None
        self.gave_up: str | None = None
        self._phase = Phase.PREFLIGHT
        self._ready: deque[tuple[int, PlannedRequest, bytes]] = deque()
        self._idx = 0
        self._measure_open = 0
        self._pending = 0
        self._no_more = False
        self._completed = 0
        self._refused_since_ns: int | None = None
        self._answered = False
        self._failed_in_row = 0
        self._ticks = 0
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)

    async def run(self, when: Callable[[], Awaitable[int]] | None = None) -> None:
        """Connect, send, measure, drain; returns when every request has ended.

        Args:
            when: Awaited once all is prepared; gives the instant at which sending starts.
        """
        loop = asyncio.get_running_loop()
        self._loop, self._stopped = loop, asyncio.Event()
        self._client = Client(
            self._target,
            limit=self._spec.concurrency,
            spares=spare_connections(self._spec),
            on_done=self._done,
            keep_text=self._spec.turns > 1 or self._spec.tokenizer is not None,
        )
        self._prepare(self._ahead)
        await self._client.open_connections()
        started_ns = time.monotonic_ns() if when is None else await when()
        self.begin_ns = started_ns + self._warmup_ns
        if self._spec.requests is None:
            self.end_ns = self.begin_ns + self._duration_ns
        self._sender = Timer(loop, self._wake)
        self._origin_ns = started_ns
        self.watch = LatenessWatch(loop, time.monotonic_ns, TICK_NS, self._tick)
        try:
            self._sender.arm(started_ns)
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

    def _wake(self) -> None:
        if self._phase is Phase.PREFLIGHT:
            self._enter(Phase.WARMUP, time.monotonic_ns())
            if self._arrivals is not None:
                self._schedule_next()
        if self._arrivals is None:
            self._start_streams()
        else:
            self._send_due()

    def _start_streams(self) -> None:
        """Start the streams whose time has come, one ``START_GAP_NS`` after the other."""
        due = min(self._spec.concurrency, 1 + (time.monotonic_ns() - self._origin_ns) // START_GAP_NS)
        for stream in range(self._started, due):
            self._next_of(stream)
        self._started = due
        if due < self._spec.concurrency:
            self._sender.arm(self._origin_ns + due * START_GAP_NS)

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self._phase = phase
        self.usage[phase] = thread_usage(now_ns)
        self._on_phase(phase)

    def _advance(self, now_ns: int) -> None:
        if self._phase is Phase.WARMUP and now_ns >= self.begin_ns:
            self._enter(Phase.MEASURE, now_ns)
        if self._no_more and self._measure_open == 0 and self._pending == 0 and self.end_ns == NEVER_NS:
            # The window's end is exclusive, and its last token counts.
            ends = (exchange.end_ns for exchange in self.exchanges if exchange.phase == Phase.MEASURE.value)
            self.end_ns = max(ends, default=now_ns) + 1
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
        self._prepare(READY_PER_TICK)
        if self._ticks % EXPIRE_EVERY_TICKS == 0:
            self._client.expire(now_ns)
        if self._ticks % PROGRESS_EVERY_TICKS == 0:
            self._on_progress(self._completed, statistics.median(self._recent_ms) if self._recent_ms else None)

    # --- sending

    def _prepare(self, most: int) -> None:
        """Spell requests that will be due soon."""
        while most > 0 and len(self._ready) < self._ahead and not self._no_more:
            number = self._tickets.take()
            if number == EMPTY:
                return
            planned = self._workload.request(number)
            self._ready.append((number, planned, self._writer.request(planned)))
            most -= 1

    def _launch(
        self,
        number: int,
        planned: PlannedRequest,
        message: bytes,
        start_ns: int,
        *,
        stream: int | None,
        intended_ns: int | None,
    ) -> None:
        phase = self._phase_of(start_ns)
        if phase == Phase.MEASURE.value:
            if not self._tickets.may_measure():
                self._no_more = True
                self._advance(time.monotonic_ns())
                return
            self._measure_open += 1
        idx, self._idx = self._idx, self._idx + 1
        self._client.submit(
            Exchange(
                idx=idx,
                phase=phase,
                planned=planned,
                message=message,
                number=number,
                stream=stream,
                intended_ns=intended_ns,
                start_ns=start_ns,
            )
        )

    def _next_of(self, stream: int) -> None:
        if self._stopped.is_set() or self._no_more:
            return
        if not self._ready:
            self._prepare(1)
        if not self._ready:
            self._loop.call_later(0.001, self._next_of, stream)
            return
        number, planned, message = self._ready.popleft()
        self._launch(number, planned, message, time.monotonic_ns(), stream=stream, intended_ns=None)

    def _schedule_next(self) -> None:
        """Arm the timer for the next arrival that is this process's."""
        if not self._ready:
            self._prepare(1)
        self._armed = bool(self._ready)
        if not self._ready:
            self._due_ns = time.monotonic_ns() + 1_000_000
        elif (offset_ns := self._offset_of(self._ready[0][0])) is not None:
            self._due_ns = self._origin_ns + offset_ns
        else:
            self._end_of_arrivals()
            return
        self._sender.arm(self._due_ns)

    def _offset_of(self, number: int) -> int | None:
        for offset_ns in self._arrivals or ():
            self._arrived += 1
            self._last_offset_ns = offset_ns
            if self._arrived == number:
                return offset_ns
        return None

    def _end_of_arrivals(self) -> None:
        """End the measuring window with the last arrival of a trace: after it the load only runs down."""
        self._armed, self._no_more = False, True
        last_ns = self._origin_ns + self._last_offset_ns + 1
        self.end_ns = min(self.end_ns, max(self.begin_ns, last_ns))
        self._due_ns = NEVER_NS
        self._advance(time.monotonic_ns())

    def _send_due(self) -> None:
        while self._due_ns <= time.monotonic_ns() and not self._no_more and not self._stopped.is_set():
            if self._armed:
                number, planned, message = self._ready.popleft()
                self._launch(number, planned, message, self._due_ns, stream=None, intended_ns=self._due_ns)
            self._schedule_next()

    # --- answers

    def _done(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        exchange.message = b""
        if exchange.phase == Phase.MEASURE.value:
            self._measure_open -= 1
            if exchange.ok:
                self._completed += 1
                self._recent_ms.append((exchange.end_ns - exchange.start_ns) / 1e6)
        self._judge(exchange)
        if not self._stopped.is_set():
            self._follow(exchange)
        if self._spec.tokenizer is None:
            exchange.text = None  # it was for the next turn; only a tokenizer reads it later
        self._advance(time.monotonic_ns())

    def _follow(self, exchange: Exchange) -> None:
        """Start what comes after this request: its session's next turn, or its stream's next request."""
        planned = exchange.planned
        if exchange.ok and not planned.last_turn:
            after = self._workload.next_turn(planned, exchange.text or "")
            self._pending += 1
            self._later(after.delay_ns, partial(self._next_turn, after, exchange))
        elif exchange.stream is not None:
            pause_ns = self._workload.think_ns(exchange.number) if exchange.ok else ERROR_PAUSE_NS
            self._later(pause_ns, partial(self._next_of, exchange.stream))

    def _later(self, pause_ns: int, call: Callable[[], None]) -> None:
        if pause_ns <= 0:
            call()
        else:
            self._loop.call_later(pause_ns / 1e9, call)

    def _next_turn(self, planned: PlannedRequest, before: Exchange) -> None:
        self._pending -= 1
        if self._stopped.is_set():
            return
        message = self._writer.request(planned)
        if before.stream is None:
            due_ns = before.end_ns + planned.delay_ns
            self._launch(before.number, planned, message, due_ns, stream=None, intended_ns=due_ns)
        else:
            now_ns = time.monotonic_ns()
            self._launch(before.number, planned, message, now_ns, stream=before.stream, intended_ns=None)

    def _judge(self, exchange: Exchange) -> None:
        """Stop early where nothing can succeed any more."""
        if exchange.ok:
            self._answered, self._failed_in_row, self._refused_since_ns = True, 0, None
            return
        if exchange.error_class is ErrorClass.CANCELLED:
            return
        self._failed_in_row += 1
        if exchange.error_class is ErrorClass.CONNECT_REFUSED and self._answered:
            self._refused_since_ns = self._refused_since_ns or exchange.end_ns
            if exchange.end_ns - self._refused_since_ns >= self._target.outage_s * 1e9:
                self.server_died = self.server_died or f"connections are refused since request {exchange.idx}"
        elif self._failed_in_row >= GIVE_UP_AFTER * self._spec.concurrency:
            self.gave_up = self.gave_up or f"{self._failed_in_row} requests in a row failed: {exchange.error}"
        if self.server_died or self.gave_up:
            self.end_ns = min(self.end_ns, max(self.begin_ns, exchange.end_ns))
            self._stopped.set()
