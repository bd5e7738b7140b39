"""One answer being read: bytes of its body in, time-stamped content events into its exchange. No I/O, no clock."""

from __future__ import annotations

import json

from enginewatch_harness.load.endpoints import Endpoint
from enginewatch_harness.load.events import Shape, error_text, learn, spelt
from enginewatch_harness.load.exchange import BY_STATUS, ErrorClass, Exchange
from enginewatch_harness.load.sse import SseSplitter

_LESSONS = 4
"""Shapes that are learnt without one event that they fit; then the server's events have none, and all are parsed."""

_ERROR_BODY_BYTES = 4_000
_SIZE_LINE_BYTES = 10


class Answer:
    """Reads one answer.

    Attributes:
        fast: Whether ``whole`` and ``walk`` may be used on the next read instead of an HTTP parser, whose state
            they leave as it is: the stream stands between two chunks and two events, and its shape is known.
    """

    __slots__ = (
        "_closed",
        "_closing",
        "_exchange",
        "_keep",
        "_learnt",
        "_lessons",
        "_opened",
        "_opening",
        "_sizes",
        "_splitter",
        "_texts",
        "_times",
        "_whole",
        "_wire",
        "fast",
    )

    def __init__(self, exchange: Exchange, wire: Endpoint, sizes: dict[int, bytes], *, keep_text: bool) -> None:
        self._exchange = exchange
        self._times = exchange.content_ns
        self._wire = wire
        self._sizes = sizes
        self._keep = keep_text
        self._splitter = SseSplitter()
        self._texts: list[str | bytes] = []
        self._whole = bytearray()
        self._learnt: Shape | None = None
        self._lessons = 0
        self._opening = self._closing = b""
        self._opened = self._closed = 0
        self.fast = False

    # --- the fast way: bytes as the socket gave them

    def whole(self, data: bytes, read_ns: int) -> bool:
        """Take a read that is exactly one chunk with one event of the known shape; ``False``: it is not that."""
        size = len(data)
        line = self._sizes.get(size)
        if line is None:
            return False
        begin = len(line)
        opened, closed = begin + self._opened, size - self._closed
        if (
            closed <= opened
            or not data.startswith(line)
            or not data.startswith(self._opening, begin)
            or not data.endswith(self._closing)
            or data.find(b'"', opened, closed) >= 0
        ):
            return False
        self._times.append(read_ns)
        if self._keep:
            self._texts.append(data[opened:closed])
        return True

    def walk(self, data: bytes, read_ns: int) -> int:
        """Take the whole chunks at the start of a read, as long as each holds one event of the known shape.

        Returns:
            How many bytes were taken.
        """
        opening, closing, size = self._opening, self._closing, len(data)
        place = 0
        while place < size:
            begin = data.find(b"\r\n", place, place + _SIZE_LINE_BYTES) + 2
            try:
                end = begin + int(data[place : begin - 2], 16) + 2
            except ValueError:
                break
            opened, closed = begin + self._opened, end - self._closed
            if (
                end > size
                or closed <= opened
                or not data.startswith(opening, begin)
                or not data.startswith(closing, closed)
                or data.find(b'"', opened, closed) >= 0
            ):
                break
            self._times.append(read_ns)
            if self._keep:
                self._texts.append(data[opened:closed])
            if place == 0 and end == size:
                self._sizes[size] = data[:begin]
            place = end
        return place

    # --- the exact way: the body as the HTTP parser gave it

    def body(self, piece: bytes, read_ns: int) -> None:
        """Take the next bytes of the body."""
        if not self._exchange.streamed or self._exchange.http_status != 200:
            if self._exchange.http_status == 200 or len(self._whole) < _ERROR_BODY_BYTES:
                self._whole += piece
            return
        for data in self._splitter.feed(piece):
            self._event(data, read_ns)

    def settle(self, *, between_chunks: bool) -> None:
        """Decide after a read whether the next one may go the fast way."""
        learnt = self._learnt
        if learnt is None or not between_chunks or not self._splitter.between:
            self.fast = False
            return
        # The fast way keeps no more than times, so the kind of the first content must have been seen before.
        self.fast = learnt.reasoning or self._exchange.visible_ns is not None
        self._opening, self._closing = b"data: " + learnt.opening, learnt.closing + b"\n\n\r\n"
        self._opened, self._closed = len(self._opening), len(self._closing)

    def _event(self, data: bytes, read_ns: int) -> None:
        learnt = self._learnt
        if learnt is not None and learnt.holds(data):
            self._lessons = 0
            self._content(read_ns, learnt.reasoning)
            if self._keep:
                self._texts.append(learnt.text(data))
            return
        exchange, facts = self._exchange, self._wire.read(data)
        if facts.text:
            self._content(read_ns, facts.reasoning)
            if self._keep:
                self._texts.append(facts.text)
            if facts.finish_reason is None and self._lessons < _LESSONS:
                self._learnt = learn(data, self._wire.read) or learnt
                self._lessons += 1
        if facts.finish_reason is not None:
            exchange.finish_reason = facts.finish_reason
        if facts.output_tokens is not None:
            exchange.output_tokens, exchange.prompt_tokens = facts.output_tokens, facts.prompt_tokens
            exchange.cached_tokens = facts.cached_tokens
        if facts.error is not None:
            exchange.fail(ErrorClass.STREAM_ERROR, facts.error)
        exchange.done = exchange.done or facts.done

    def _content(self, read_ns: int, reasoning: bool) -> None:
        exchange = self._exchange
        exchange.content_ns.append(read_ns)
        if reasoning:
            exchange.reasoned = True
        elif exchange.visible_ns is None:
            exchange.visible_ns = read_ns

    # --- the end

    def finish(self, content_type: str, read_ns: int, *, closed: bool, streaming: bool) -> None:
        """Judge the answer when it has ended.

        Args:
            content_type: The answer's header; empty where it had none.
            read_ns: Time of the last read.
            closed: Whether it ended with its connection rather than by its own length.
            streaming: Whether a stream was asked for.
        """
        exchange = self._exchange
        if exchange.http_status is None:
            exchange.fail(ErrorClass.HALF_STREAM, "the connection closed inside the headers")
        elif exchange.http_status != 200:
            kind = BY_STATUS.get(exchange.http_status, ErrorClass.HTTP_ERROR)
            exchange.fail(kind, f"HTTP {exchange.http_status}: {_plain(bytes(self._whole))}")
        elif exchange.streamed:
            self._end_of_stream(read_ns, closed=closed)
        elif streaming:
            kind_of_answer = content_type or "no content type"
            exchange.fail(ErrorClass.NOT_STREAMING, f"the answer is {kind_of_answer}, not text/event-stream")
        else:
            self._end_of_whole()
        if self._keep and exchange.ok:
            exchange.text = _text(self._texts)

    def _end_of_stream(self, read_ns: int, *, closed: bool) -> None:
        exchange = self._exchange
        for data in self._splitter.flush():
            self._event(data, read_ns)
        marked = exchange.done or (exchange.finish_reason is not None and not closed)
        if not marked and (closed or self._wire.marked_end):
            tokens = len(exchange.content_ns)
            exchange.fail(ErrorClass.HALF_STREAM, f"the stream ended after {tokens} content events")
        elif not exchange.content_ns:
            exchange.fail(ErrorClass.NO_CONTENT, f"the stream ended ({exchange.finish_reason}) without a token")

    def _end_of_whole(self) -> None:
        exchange, facts = self._exchange, self._wire.read(bytes(self._whole))
        exchange.finish_reason = facts.finish_reason
        exchange.prompt_tokens, exchange.output_tokens = facts.prompt_tokens, facts.output_tokens
        exchange.cached_tokens = facts.cached_tokens
        if facts.error is not None:
            exchange.fail(ErrorClass.STREAM_ERROR, facts.error)
        elif not facts.text:
            exchange.fail(ErrorClass.NO_CONTENT, f"the answer ({facts.finish_reason}) has no text")
        if self._keep:
            self._texts.append(facts.text)


def _text(parts: list[str | bytes]) -> str:
    """Join what was kept: texts as they are, and runs of JSON-spelt pieces, which may share a surrogate pair."""
    found, run = [], bytearray()
    for part in parts:
        if isinstance(part, bytes):
            run += part
            continue
        found += [spelt(bytes(run)), part]
        run.clear()
    return "".join([*found, spelt(bytes(run))])


def _plain(body: bytes) -> str:
    """Return the message of an error body, JSON or not."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body[:300].decode("utf-8", errors="replace").strip()
    return error_text(found.get("error", found) if isinstance(found, dict) else found)
