"""One answer being read: bytes of its body in, time-stamped content events into its exchange. No I/O, no clock."""

from __future__ import annotations

import json

from enginewatch_harness.load.endpoints import Endpoint
from enginewatch_harness.load.events import EventReader, Family, Shape, error_text, learn, spelt
from enginewatch_harness.load.exchange import BY_STATUS, ErrorClass, Exchange
from enginewatch_harness.load.sse import SseSplitter

_FAMILIES = 4
"""Kinds of events with text that a server may have: text, reasoning, and some to spare."""

_MISSES = 8
"""Events with text that teach nothing, in one answer; then its events have no shape, and all are parsed."""

_ERROR_BODY_BYTES = 4_000
_SIZE_LINE_BYTES = 10
_BROKEN_OFF = frozenset({"abort", "error", "cancelled"})
"""Finish reasons of answers that are not whole."""


class Lessons:
    """What one server's streams have taught so far, for all of its connections.

    Attributes:
        families: Shapes of events, newest first.
    """

    __slots__ = ("families",)

    def __init__(self) -> None:
        self.families: list[Family] = []

    def known(self, data: bytes) -> Shape | None:
        """Return the shape of an event of a known family."""
        for family in self.families:
            if (shape := family.shape(data)) is not None:
                return shape
        return None

    def learn(self, data: bytes, read: EventReader) -> Shape | None:
        """Return the shape that an event teaches; ``None`` where it shows none for certain."""
        if (learnt := learn(data, read)) is None:
            return None
        self.families = [learnt[1], *self.families[: _FAMILIES - 1]]
        return learnt[0]


Line = tuple[bytes, int, int]
"""What a read of a certain length begins with, and where the text in it begins and ends."""


class Answer:
    """Reads one answer.

    Attributes:
        lines: Length of a read → what it must begin with to be exactly one chunk with one event of the known shape.
        closing: What it must end with.
    """

    __slots__ = (
        "_exchange",
        "_keep",
        "_learnt",
        "_lessons",
        "_missed",
        "_opening",
        "_settled",
        "_splitter",
        "_times",
        "_whole",
        "_wire",
        "closing",
        "lines",
        "texts",
    )

    def __init__(self, exchange: Exchange, wire: Endpoint, lessons: Lessons, *, keep_text: bool) -> None:
        self._exchange = exchange
        self._times = exchange.content_ns
        self._wire = wire
        self._lessons = lessons
        self._keep = keep_text
        self._splitter = SseSplitter()
        self.texts: list[str | bytes] = []
        self._whole = bytearray()
        self._learnt: Shape | None = None
        self._settled: Shape | None = None
        self._missed = 0
        self._opening = self.closing = b""
        self.lines: dict[int, Line] = {}

    # --- the fast way: bytes as the socket gave them

    def walk(self, data: bytes, read_ns: int) -> int:
        """Take the whole chunks at the start of a read, as long as each holds one event of the known shape.

        Only between two chunks and two events (``settle``): an HTTP parser that does not see them stays right.

        Returns:
            How many bytes were taken.
        """
        opening, closing, size = self._opening, self.closing, len(data)
        place = 0
        while place < size:
            begin = data.find(b"\r\n", place, place + _SIZE_LINE_BYTES) + 2
            try:
                end = begin + int(data[place : begin - 2], 16) + 2
            except ValueError:
                break
            opened, closed = begin + len(opening), end - len(closing)
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
                self.texts.append(data[opened:closed])
            if end - place == size:
                self.lines[size] = data[:opened], opened, closed
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

    def settle(self, *, between_chunks: bool) -> bool:
        """Return after a read whether the next one may go the fast way."""
        learnt = self._learnt
        if learnt is None or not between_chunks or not self._splitter.between:
            return False
        if learnt is not self._settled:
            self._settled = learnt
            self._opening, self.closing = b"data: " + learnt.opening, learnt.closing + b"\n\n\r\n"
            self.lines = {}
        return True

    def _event(self, data: bytes, read_ns: int) -> None:
        learnt = self._learnt
        if learnt is None or not learnt.holds(data):
            learnt = self._lessons.known(data)
            if learnt is None:
                self._read(data, read_ns)
                return
            self._learnt = learnt
        self._content(read_ns, learnt.reasoning)
        if self._keep:
            self.texts.append(learnt.text(data))

    def _read(self, data: bytes, read_ns: int) -> None:
        """Take an event that has no known shape."""
        exchange, facts = self._exchange, self._wire.read(data)
        if facts.text:
            self._content(read_ns, facts.reasoning)
            if self._keep:
                self.texts.append(facts.text)
            if facts.finish_reason is None and self._missed < _MISSES:
                self._missed += 1
                self._learnt = self._lessons.learn(data, self._wire.read) or self._learnt
        if facts.finish_reason is not None:
            exchange.finish_reason = facts.finish_reason
            _refuse_broken_off(exchange)
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
            exchange.text = _text(self.texts)

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
        _refuse_broken_off(exchange)
        exchange.prompt_tokens, exchange.output_tokens = facts.prompt_tokens, facts.output_tokens
        exchange.cached_tokens = facts.cached_tokens
        if facts.error is not None:
            exchange.fail(ErrorClass.STREAM_ERROR, facts.error)
        elif not facts.text:
            exchange.fail(ErrorClass.NO_CONTENT, f"the answer ({facts.finish_reason}) has no text")
        if self._keep:
            self.texts.append(facts.text)


def _refuse_broken_off(exchange: Exchange) -> None:
    if exchange.finish_reason in _BROKEN_OFF:
        exchange.fail(
            ErrorClass.STREAM_ERROR, f"the server broke the answer off: finish_reason {exchange.finish_reason}"
        )


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
