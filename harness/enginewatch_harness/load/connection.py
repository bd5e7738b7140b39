"""One keep-alive connection: raw bytes in, time-stamped content events out.

The time is taken once per read, first thing, before anything is parsed. So parsing never delays a stamp, and
events that arrived in one read share theirs.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Protocol, cast

import httptools

from enginewatch_harness.load.exchange import ErrorClass, Exchange
from enginewatch_harness.load.sse import SseSplitter, error_text, read_event

_ERROR_BODY_BYTES = 2_000


class Owner(Protocol):
    """Who hands requests to connections."""

    def finished(self, connection: Connection, exchange: Exchange, *, reusable: bool) -> None:
        """Take back a request that ended, and its connection."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection that carried no request."""

    def resend(self, exchange: Exchange) -> None:
        """Send a request again whose idle connection the server had closed."""


class Connection(asyncio.Protocol):
    """Carries one request at a time. Every way for it to end leads to exactly one ``Owner.finished``."""

    __slots__ = (
        "_body",
        "_complete",
        "_content_type",
        "_exchange",
        "_keep_alive",
        "_owner",
        "_parser",
        "_read_ns",
        "_splitter",
        "_streaming",
        "_transport",
        "answered_ns",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._splitter = SseSplitter()
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._read_ns = 0
        self._body = b""
        self._content_type = b""
        self._streaming = False
        self._complete = False
        self._keep_alive = False
        self.answered_ns: int | None = None

    # --- sending

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Hand a request to the socket."""
        exchange.sent_ns = time.monotonic_ns()
        if self._transport is None:
            self._end(exchange, ErrorClass.NO_RESPONSE, "the server closed the connection as soon as it was open")
            return
        self._splitter = SseSplitter()
        self._body = self._content_type = b""
        self._streaming = self._complete = False
        self._exchange = exchange
        self._transport.write(request)

    def abort(self, error_class: ErrorClass, error: str) -> None:
        """End the request in flight, if any, and close the connection."""
        exchange, self._exchange = self._exchange, None
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            self._end(exchange, error_class, error)

    def close(self) -> None:
        """Close the connection, which carries no request; closing twice does nothing."""
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport. uvloop and asyncio set TCP_NODELAY themselves."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Stamp a read and parse it."""
        self._read_ns = time.monotonic_ns()
        exchange = self._exchange
        if exchange is None:
            self.abort(ErrorClass.BAD_RESPONSE, "bytes that answer no request")
            return
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = self._read_ns
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                self.abort(ErrorClass.BAD_RESPONSE, str(error) or type(error).__name__)
                return
        # Only now, because whoever gets the request back may send the next one on this connection.
        if self._complete:
            self._answered(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """Classify what the end of the connection means for the request on it."""
        exchange, self._exchange = self._exchange, None
        self._transport = None
        if exchange is None:
            self._owner.lost(self)
            return
        self._read_ns = time.monotonic_ns()
        if exchange.first_byte_ns is None and not exchange.new_connection:
            # The server may close an idle connection at any time; that it did so just now is no failure of its.
            self._owner.lost(self)
            self._owner.resend(exchange)
        elif exc is not None:
            self._end(exchange, ErrorClass.RESET, str(exc) or type(exc).__name__)
        elif exchange.first_byte_ns is None:
            self._end(exchange, ErrorClass.NO_RESPONSE, "the server closed the connection without an answer")
        else:
            # An answer without a length ends with its connection; whether it is whole, its events tell.
            self._exchange = exchange
            self._answered(exchange, closed=True)

    # --- httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the content type."""
        if name.lower() == b"content-type":
            self._content_type = value.lower()

    def on_headers_complete(self) -> None:
        """Note the status and whether this is an event stream."""
        exchange = self._exchange
        if exchange is not None:
            exchange.http_status = self._parser.get_status_code()
            self._streaming = exchange.http_status == 200 and b"text/event-stream" in self._content_type

    def on_body(self, body: bytes) -> None:
        """Count the content events of a piece of the body, at the time of its read."""
        if not self._streaming:
            if len(self._body) < _ERROR_BODY_BYTES:
                self._body += body
            return
        self._take(self._splitter.feed(body))

    def on_message_complete(self) -> None:
        """Note the end of an answer, but not of an interim one (1xx, RFC 9110 section 15.2)."""
        exchange = self._exchange
        self._complete = exchange is not None and (exchange.http_status or 0) >= 200
        self._keep_alive = self._parser.should_keep_alive()  # llhttp forgets it when this returns

    # --- ours

    def _take(self, events: list[bytes]) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        for data in events:
            facts = read_event(data)
            if facts.content:
                exchange.content_ns.append(self._read_ns)
            if facts.finish_reason is not None:
                exchange.finish_reason = facts.finish_reason
            if facts.output_tokens is not None:
                exchange.output_tokens = facts.output_tokens
                exchange.prompt_tokens = facts.prompt_tokens
            if facts.error is not None:
                exchange.fail(ErrorClass.STREAM_ERROR, facts.error)
            exchange.done = exchange.done or facts.done

    def _answered(self, exchange: Exchange, *, closed: bool = False) -> None:
        self._take(self._splitter.flush())
        self._exchange = None
        if exchange.http_status is None:
            exchange.fail(ErrorClass.HALF_STREAM, "the connection closed inside the headers")
        elif exchange.http_status != 200:
            exchange.fail(ErrorClass.HTTP_ERROR, f"HTTP {exchange.http_status}: {_plain(self._body)}")
        elif not self._streaming:
            kind = self._content_type.decode("latin-1") or "no content type"
            exchange.fail(ErrorClass.NOT_STREAMING, f"the answer is {kind}, not text/event-stream")
        elif not exchange.done and (closed or exchange.finish_reason is None):
            tokens = len(exchange.content_ns)
            exchange.fail(ErrorClass.HALF_STREAM, f"the stream ended after {tokens} content events")
        elif not exchange.content_ns:
            exchange.fail(ErrorClass.NO_CONTENT, f"the stream ended ({exchange.finish_reason}) without a token")
        self._end(exchange, reusable=not closed and self._keep_alive)

    def _end(
        self,
        exchange: Exchange,
        error_class: ErrorClass | None = None,
        error: str = "",
        *,
        reusable: bool = False,
    ) -> None:
        exchange.end_ns = self._read_ns if error_class is None else time.monotonic_ns()
        if error_class is not None:
            exchange.fail(error_class, error)
        self.answered_ns = exchange.end_ns
        self._owner.finished(self, exchange, reusable=reusable)


def _plain(body: bytes) -> str:
    """Return the message of an error body, JSON or not."""
    try:
        found = json.loads(body)
    except ValueError:
        return body[:300].decode("utf-8", errors="replace").strip()
    return error_text(found.get("error", found) if isinstance(found, dict) else found)
