"""The HTTP client of the load: a pool of keep-alive connections on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable

from enginewatch_harness.load.answer import Lessons
from enginewatch_harness.load.connection import CLOSED_BY_ANSWER_NS, Connection
from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.target import Target

_NS = 1e9

_CLOSING_TURN_S = 0.001
_CLOSING_TURNS = 500


class Client:
    """Sends requests and reports each one exactly once, however it ended.

    Some servers close the connection after every stream without saying so (llama.cpp does). Once that is
    seen, each request gets a connection that was opened while the one before it was busy, so that connecting
    stays outside of TTFT as it does with servers that keep connections alive.

    Args:
        target: Where to.
        limit: The most requests in flight; further ones wait their turn here, which shows as lateness.
        spares: The most idle connections to hold ready.
        on_done: Called with each request that ended.
        keep_text: Keep what is answered, for the next turn or for a tokenizer.
    """

    def __init__(
        self,
        target: Target,
        *,
        limit: int,
        spares: int,
        on_done: Callable[[Exchange], None],
        keep_text: bool = False,
    ) -> None:
        self.wire = target.wire()
        self.streaming = target.streams()
        self.keep_text = keep_text
        self.lessons = Lessons()
        self.reuse_works = False
        self._host, self._port = target.address()
        self._tls = target.tls()
        self._timeout_ns = round(target.timeout_s * _NS)
        self._limit, self._spares = limit, spares
        self._on_done = on_done
        self._idle: list[Connection] = []
        self._busy: dict[int, tuple[Exchange, Connection | None]] = {}
        self._waiting: deque[Exchange] = deque()
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._server_closes = False
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()
        self.resent = 0

    async def open_connections(self) -> None:
        """Open the spare connections beforehand; one that fails is left to the request that will need it."""
        await asyncio.gather(*(self._open_spare() for _ in range(self._spares)))

    async def _open_spare(self) -> None:
        with contextlib.suppress(OSError):
            self._idle.append(await self._open())

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port, ssl=self._tls)
        self._opened.add(connection)
        return connection

    def _keep_spare(self) -> None:
        if self._server_closes and len(self._idle) + len(self._opening) < self._spares:
            task = asyncio.get_running_loop().create_task(self._open_spare())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def submit(self, exchange: Exchange) -> None:
        """Send a request now, or as soon as fewer than ``limit`` are in flight."""
        if len(self._busy) < self._limit:
            self._start(exchange)
        else:
            self._waiting.append(exchange)

    def _start(self, exchange: Exchange) -> None:
        if exchange.intended_ns is None:
            exchange.start_ns = time.monotonic_ns()
        if self._idle:
            connection = self._idle.pop()
            self._busy[exchange.idx] = (exchange, connection)
            connection.send(exchange)
            if exchange.intended_ns is None and exchange.sent_ns is not None:
                exchange.start_ns = exchange.sent_ns
        else:
            self._connect(exchange, time.monotonic_ns() if exchange.intended_ns is not None else exchange.start_ns)
        self._keep_spare()

    def _connect(self, exchange: Exchange, began_ns: int) -> None:
        exchange.new_connection = True
        self._busy[exchange.idx] = (exchange, None)
        task = asyncio.get_running_loop().create_task(self._connect_and_send(exchange, began_ns))
        self._connecting[exchange.idx] = task
        task.add_done_callback(lambda _: self._connecting.pop(exchange.idx, None))

    async def _connect_and_send(self, exchange: Exchange, began_ns: int) -> None:
        try:
            connection = await self._open()
        except ConnectionRefusedError as error:
            self._fail(exchange, ErrorClass.CONNECT_REFUSED, str(error))
        except ssl.SSLError as error:
            self._fail(exchange, ErrorClass.TLS_FAILED, error.reason or str(error))
        except OSError as error:
            self._fail(exchange, ErrorClass.CONNECT_FAILED, str(error))
        else:
            self._busy[exchange.idx] = (exchange, connection)
            connection.send(exchange)
            if exchange.sent_ns is not None:
                exchange.connect_ns = exchange.sent_ns - began_ns

    # --- what connections report

    def finished(self, connection: Connection, exchange: Exchange, *, reusable: bool) -> None:
        """Take back a request that ended, and its connection."""
        # A server that says so after a good answer closes after each; after an error it closes this one.
        # One that has kept a connection alive has only had enough of this one (a proxy's limit of requests).
        self._server_closes = self._server_closes or (exchange.ok and not reusable and not self.reuse_works)
        if reusable and not self._server_closes:
            self._idle.append(connection)
        else:
            connection.close()
        self._report(exchange)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that closed while it was idle."""
        if connection in self._idle:
            self._idle.remove(connection)
        answered_ns = connection.answered_ns
        if answered_ns is not None and time.monotonic_ns() - answered_ns < CLOSED_BY_ANSWER_NS:
            self._server_closes = True

    def resend(self, exchange: Exchange) -> None:
        """Send a request again on a new connection; its clock goes on."""
        self.resent += 1
        self._connect(exchange, exchange.sent_ns or exchange.start_ns)

    def _fail(self, exchange: Exchange, error_class: ErrorClass, error: str) -> None:
        exchange.end_ns = time.monotonic_ns()
        exchange.fail(error_class, error)
        self._report(exchange)

    def _report(self, exchange: Exchange) -> None:
        if self._busy.pop(exchange.idx, None) is None:
            return
        if self._waiting and len(self._busy) < self._limit:
            self._start(self._waiting.popleft())
        self._on_done(exchange)

    # --- limits and the end

    def expire(self, now_ns: int) -> None:
        """Fail the requests whose time limit has passed."""
        for exchange, connection in list(self._busy.values()):
            if now_ns - exchange.start_ns > self._timeout_ns:
                limit = f"no end within {self._timeout_ns / _NS:g} s ({len(exchange.content_ns)} content events)"
                self._abort(exchange, connection, ErrorClass.TIMEOUT, limit)
        while self._waiting and now_ns - self._waiting[0].start_ns > self._timeout_ns:
            late = self._waiting.popleft()
            self._busy[late.idx] = (late, None)
            self._fail(late, ErrorClass.TIMEOUT, f"not sent within {self._timeout_ns / _NS:g} s: all connections busy")

    def cancel_all(self) -> None:
        """End every request that is still in flight or waiting."""
        waiting, self._waiting = list(self._waiting), deque()
        for exchange in waiting:
            self._busy[exchange.idx] = (exchange, None)
            self._fail(exchange, ErrorClass.CANCELLED, "the load ended before it was sent")
        for exchange, connection in list(self._busy.values()):
            self._abort(exchange, connection, ErrorClass.CANCELLED, "the load ended")

    def _abort(self, exchange: Exchange, connection: Connection | None, error_class: ErrorClass, error: str) -> None:
        if connection is not None:
            connection.abort(error_class, error)
            return
        task = self._connecting.get(exchange.idx)
        if task is not None:
            task.cancel()
        self._fail(exchange, error_class, error)

    async def close(self) -> None:
        """Cancel what is in flight and close all connections."""
        self.cancel_all()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._connecting.values(), *self._opening, return_exceptions=True)
        # A loop can be closed only when every transport is: TLS says goodbye first, so it is cut short.
        for connection in list(self._opened):
            connection.drop()
        for _ in range(_CLOSING_TURNS):
            if not any(connection.is_open for connection in list(self._opened)):
                break
            await asyncio.sleep(_CLOSING_TURN_S)
