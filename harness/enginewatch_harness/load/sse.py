"""Server-sent events from raw bytes, and what an event of an OpenAI-compatible stream says. Pure.

Event stream format: WHATWG HTML, section 9.2 "Server-sent events" (fields, comments, three line endings, and
data lines that are joined by a line feed).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


class SseSplitter:
    """Splits a stream that arrives in arbitrary pieces into the data of its events."""

    __slots__ = ("_begun", "_skip_lf", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._skip_lf = False
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next bytes; return the data of each event that they complete, in order."""
        if self._skip_lf and piece:
            piece = piece[piece.startswith(b"\n") :]
            self._skip_lf = False
        if b"\r" in piece:
            # A carriage return that ends the piece is a line ending already; its line feed may come next.
            self._skip_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        stream = self._tail + piece if self._tail else piece
        if not self._begun:
            if len(stream) < len(_BOM) and _BOM.startswith(stream):
                self._tail = stream
                return []
            self._begun = True
            stream = stream.removeprefix(_BOM)
        if b"\n\n" not in stream:
            self._tail = stream
            return []
        *blocks, self._tail = stream.split(b"\n\n")
        # A block that begins with an empty line ended an event of nothing; the slow path drops the line.
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif (data := _data_of(block)) is not None:
                events.append(data)
        return events

    def flush(self) -> list[bytes]:
        """Return the event that the end of the stream left without its empty line, if any.

        The standard drops it; some servers end with ``data: [DONE]`` and a single line feed.
        """
        data = _data_of(self._tail)
        self._tail = b""
        return [] if data is None else [data]


def _data_of(block: bytes) -> bytes | None:
    """Return the joined data lines of one event, or ``None`` when it has none (a comment, another field)."""
    lines = []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(lines) if lines else None


class EventFacts(NamedTuple):
    """What one event says.

    Attributes:
        content: It carries text, reasoning or a tool call that is not empty; role-only, empty and usage-only
            events do not.
        done: It is the end marker.
        finish_reason: Why generation ended; ``None`` while it goes on.
        prompt_tokens: From its usage block; ``None`` where it has none.
        output_tokens: From its usage block; ``None`` where it has none.
        error: What the server reports instead of a token; ``None`` where it reports none.
    """

    content: bool = False
    done: bool = False
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


_CONTENT = EventFacts(content=True)
_NOTHING = EventFacts()
_DONE_FACTS = EventFacts(done=True)
_CONTENT_KEYS = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")


def read_event(data: bytes) -> EventFacts:
    """Return what the data of one event of ``/v1/completions`` or ``/v1/chat/completions`` say; never raises."""
    if data == DONE:
        return _DONE_FACTS
    try:
        event = json.loads(data)
    except ValueError:
        return EventFacts(error=f"an event that is not JSON: {data[:80]!r}")
    if not isinstance(event, dict):
        return EventFacts(error=f"an event that is not an object: {data[:80]!r}")
    if event.get("error"):
        return EventFacts(error=error_text(event["error"]))
    content, finish = False, None
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            content = content or _has_content(choice)
            reason = choice.get("finish_reason")
            finish = finish or (str(reason) if reason else None)
    usage = event.get("usage")
    if isinstance(usage, dict):
        prompt, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        return EventFacts(content=content, finish_reason=finish, prompt_tokens=prompt, output_tokens=output)
    if finish is not None:
        return EventFacts(content=content, finish_reason=finish)
    return _CONTENT if content else _NOTHING


def _has_content(choice: dict[str, Any]) -> bool:
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(delta.get(key) for key in _CONTENT_KEYS)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def error_text(error: object) -> str:
    """Return the message of an OpenAI-style error object, or the thing itself as text; 300 characters at most."""
    if isinstance(error, dict) and error.get("message"):
        error = error["message"]
    return str(error)[:300]
