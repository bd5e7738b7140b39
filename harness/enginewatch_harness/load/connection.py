"""One keep-alive connection: raw bytes in, time-stamped content events out.

The time is taken once per read, first thing, before anything is parsed. So parsing never delays a stamp, and
events that arrived in one read share theirs. Chunks of a known shape skip the HTTP parser (see ``Answer``).
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
import time
from array import array
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from enginewatch_harness.load.answer import Answer, Lessons, Line
from enginewatch_harness.load.endpoints import Endpoint
from enginewatch_harness.load.exchange import ErrorClass, Exchange

CLOSED_BY_ANSWER_NS = 100_000_000
"""A connection that closes this soon after its answer was closed by the server's habit, not by a time limit."""

_now_ns = time.monotonic_ns
_NO_LINES: dict[int, Line] = {}
_NO_TIMES = array("q")


class Owner(Protocol):
    """Who hands requests to connections.

    Attributes:
        wire: The endpoint that they go to.
        streaming: Whether streams are asked for.
        keep_text: Whether the answers' text is kept.
        lessons: What the server's streams have taught so far.
        reuse_works: Whether a connection has carried a second request: then the server keeps them alive.
    """

    wire: Endpoint
    streaming: bool
    keep_text: bool
    lessons: Lessons
    reuse_works: bool

    def finished(self, connection: Connection, exchange: Exchange, *, reusable: bool) -> None:
        """Take back a request that ended, and its connection."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection that carried no request."""

    def resend(self, exchange: Exchange) -> None:
        """Send a request again whose idle connection the server had closed."""


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how many written bytes the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ)."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0


class Connection(asyncio.Protocol):
    """Carries one request at a time. Every way for it to end leads to exactly one ``Owner.finished``."""

    __slots__ = (
        "__weakref__",
        "_answer",
        "_append",
        "_between_chunks",
        "_closing",
        "_complete",
        "_content_type",
        "_exchange",
        "_fast",
        "_keep_alive",
        "_lines",
        "_owner",
        "_parser",
        "_reached",
        "_read_ns",
        "_texts",
        "_transport",
        "answered_ns",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._read_ns = 0
        self._content_type = ""
        self._between_chunks = False
        self._complete = False
        self._keep_alive = False
        self._reached = False
        self._close_fast_way()
        self.answered_ns: int | None = None

    def _close_fast_way(self) -> None:
        self._fast = False
        self._lines: dict[int, Line] = _NO_LINES
        self._closing = b""
        self._texts: list[str | bytes] | None = None
        self._append: Callable[[int], None] = _NO_TIMES.append

    # --- sending

    def send(self, exchange: Exchange) -> None:
        """Hand a request to the socket."""
        exchange.sent_ns = time.monotonic_ns()
        if self._transport is None:
            self._end(exchange, ErrorClass.NO_RESPONSE, "the server closed the connection as soon as it was open")
            return
        owner = self._owner
        self._answer = Answer(exchange, owner.wire, owner.lessons, keep_text=owner.keep_text)
        self._append = exchange.content_ns.append
        self._texts = self._answer.texts if owner.keep_text else None
        self._content_type = ""
        self._complete = self._between_chunks = self._reached = False
        self._exchange = exchange
        self._transport.write(exchange.message)

    def abort(self, error_class: ErrorClass, error: str) -> None:
        """End the request in flight, if any, and close the connection."""
        exchange, self._exchange = self._exchange, None
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            self._end(exchange, error_class, error)

    @property
    def is_open(self) -> bool:
        """Whether its loss has yet to be told."""
        return self._transport is not None

    def drop(self) -> None:
        """Close at once, without a farewell; closing twice does nothing."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection, which carries no request; closing twice does nothing."""
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. uvloop and asyncio set TCP_NODELAY themselves."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Stamp a read; then take it the fast way as far as that goes.

        This is what nearly every token costs. The first test passes for a read that is exactly one chunk with one
        event of the stream's shape: its length, what comes before the text, what comes after it, and no quote in
        the text. ``_lines`` is empty while the fast way is closed.
        """
        read_ns = _now_ns()
        line = self._lines.get(len(data))
        if line is not None:
            opening, opened, closed = line
            if data.startswith(opening) and data.endswith(self._closing) and data.find(b'"', opened, closed) < 0:
                self._append(read_ns)
                if self._texts is not None:
                    self._texts.append(data[opened:closed])
                return
        answer = self._answer
        if answer is None or not self._fast:
            self._parse(data, read_ns)
            return
        taken = answer.walk(data, read_ns)
        if taken < len(data):
            self._parse(data[taken:] if taken else data, read_ns)

    def _parse(self, data: bytes, read_ns: int) -> None:
        exchange, answer = self._exchange, self._answer
        if exchange is None or answer is None or self._parser is None:
            self.abort(ErrorClass.BAD_RESPONSE, "bytes that answer no request")
            return
        self._read_ns = read_ns
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = read_ns
            self._owner.reuse_works = self._owner.reuse_works or self.answered_ns is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                self.abort(ErrorClass.BAD_RESPONSE, str(error) or type(error).__name__)
                return
        # Only now, because whoever gets the request back may send the next one on this connection.
        if self._complete:
            self._answered(exchange, answer)
        elif exchange.streamed:
            self._fast = answer.settle(between_chunks=self._between_chunks and data.endswith(b"\r\n"))
            self._lines, self._closing = (answer.lines if self._fast else _NO_LINES), answer.closing

    def eof_received(self) -> bool:
        """Note whether the request had reached the server when it closed its side; then close ours."""
        if self._transport is not None:
            self._reached = unacknowledged_bytes(self._transport) == 0
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Classify what the end of the connection means for the request on it."""
        exchange, self._exchange = self._exchange, None
        answer, self._answer = self._answer, None
        # The parser and this connection hold each other, and nothing collects cycles during a load.
        self._transport = self._parser = None
        if exchange is None or answer is None:
            self._owner.lost(self)
            return
        self._read_ns = time.monotonic_ns()
        unanswered = exchange.first_byte_ns is None and not exchange.new_connection
        if unanswered:
            self._owner.lost(self)
        if unanswered and self._closed_before(exc, self._read_ns):
            self._owner.resend(exchange)
        elif exc is not None:
            self._end(exchange, ErrorClass.RESET, str(exc) or type(exc).__name__)
        elif exchange.first_byte_ns is None:
            self._end(exchange, ErrorClass.NO_RESPONSE, "the server closed the connection without an answer")
        else:
            # An answer without a length ends with its connection; whether it is whole, its events tell.
            self._exchange = exchange
            self._answered(exchange, answer, closed=True)

    def _closed_before(self, exc: Exception | None, now_ns: int) -> bool:
        """Return whether the server had closed the idle connection when the request came: no failure of either.

        A close that acknowledges the request, and a reset, come from a server that had the connection open. Only
        right after an answer, and while no connection has been used twice, are they the habit of closing after each.
        """
        if (exc is None or isinstance(exc, BrokenPipeError)) and not self._reached:
            return True
        unproven = self.answered_ns is not None and not self._owner.reuse_works
        return unproven and now_ns - (self.answered_ns or 0) < CLOSED_BY_ANSWER_NS

    # --- httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the content type."""
        if name.lower() == b"content-type":
            self._content_type = value.decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        """Note the status and whether this is an event stream."""
        exchange = self._exchange
        if exchange is not None and self._parser is not None:
            exchange.http_status = self._parser.get_status_code()
            exchange.streamed = exchange.http_status == 200 and "text/event-stream" in self._content_type

    def on_chunk_header(self) -> None:
        """Note that a chunk has begun."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """Note that a chunk has ended."""
        self._between_chunks = True

    def on_body(self, body: bytes) -> None:
        """Count the content events of a piece of the body, at the time of its read."""
        if self._answer is not None:
            self._answer.body(body, self._read_ns)

    def on_message_complete(self) -> None:
        """Note the end of an answer, but not of an interim one (1xx, RFC 9110 section 15.2)."""
        exchange = self._exchange
        self._complete = exchange is not None and (exchange.http_status or 0) >= 200
        # llhttp forgets it when this returns
        self._keep_alive = self._parser is not None and self._parser.should_keep_alive()

    # --- ours

    def _answered(self, exchange: Exchange, answer: Answer, *, closed: bool = False) -> None:
        self._exchange = self._answer = None
        self._close_fast_way()
        answer.finish(self._content_type, self._read_ns, closed=closed, streaming=self._owner.streaming)
        self._end(exchange, reusable=not closed and self._keep_alive)

    def _end(
        self,
        exchange: Exchange,
        error_class: ErrorClass | None = None,
        error: str = "",
        *,
        reusable: bool = False,
    ) -> None:
        self._answer = None
        self._close_fast_way()
        exchange.end_ns = self._read_ns if error_class is None else time.monotonic_ns()
        if error_class is not None:
            exchange.fail(error_class, error)
        self.answered_ns = exchange.end_ns if reusable else None
        self._owner.finished(self, exchange, reusable=reusable)
