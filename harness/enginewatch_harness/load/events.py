"""What the events and the whole answers of LLM servers say, and the shape that a stream's events share. Pure.

Most events of a stream differ in their text alone. Once one of them has been parsed, the bytes around its text
are its *shape*: an event that begins and ends with the same bytes, and has neither quote nor line end between
them, says the same but for its text, so it needs no JSON parser. Any other event is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

DONE = b"[DONE]"


class EventFacts(NamedTuple):
    """What one event, or a whole answer, says.

    Attributes:
        text: Text, reasoning or tool call that it carries; empty in role-only, empty and usage-only events.
        reasoning: Whether its text is reasoning only.
        done: It is the end marker.
        finish_reason: Why generation ended; ``None`` while it goes on.
        prompt_tokens: From its usage block; ``None`` where it has none.
        output_tokens: From its usage block; ``None`` where it has none.
        cached_tokens: Prompt tokens from the server's prefix cache, by its usage block.
        error: What the server reports instead of a token; ``None`` where it reports none.
    """

    text: str = ""
    reasoning: bool = False
    done: bool = False
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    error: str | None = None


EventReader = Callable[[bytes], EventFacts]

_DONE_FACTS = EventFacts(done=True)
_VISIBLE_KEYS = ("content", "text", "refusal")
_REASONING_KEYS = ("reasoning_content", "reasoning")


def read_openai(data: bytes) -> EventFacts:
    """Read an event or answer of ``/v1/completions`` or ``/v1/chat/completions``; never raises."""
    if data == DONE:
        return _DONE_FACTS
    event = _object(data)
    if isinstance(event, EventFacts):
        return event
    text, reasoning, finish = "", "", None
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        reason = choice.get("finish_reason")
        reason = reason.get("type") if isinstance(reason, dict) else reason  # SGLang's own endpoint
        finish = finish or (str(reason) if reason else None)
        # A chat has its text in a delta or a message, a completion in the choice itself.
        part = choice.get("delta") or choice.get("message") or choice
        if isinstance(part, dict):
            text += _joined(part, _VISIBLE_KEYS) + _calls(part)
            reasoning += _joined(part, _REASONING_KEYS)
    usage = event.get("usage")
    prompt, output, cached = _usage(usage) if usage else (None, None, None)
    return EventFacts(
        text=text or reasoning,
        reasoning=bool(reasoning) and not text,
        finish_reason=finish,
        prompt_tokens=prompt,
        output_tokens=output,
        cached_tokens=cached,
    )


def read_generate(data: bytes) -> EventFacts:
    """Read an event or answer of Triton's generate extension (``text_output``); never raises."""
    event = _object(data)
    if isinstance(event, EventFacts):
        return event
    text = event.get("text_output")
    return EventFacts(text=text if isinstance(text, str) else "".join(map(str, text or ())))


def read_infer(data: bytes) -> EventFacts:
    """Read an answer of ``/v2/models/.../infer`` (KServe v2): the output named ``text_output``; never raises."""
    event = _object(data)
    if isinstance(event, EventFacts):
        return event
    outputs = event.get("outputs")
    named = [item for item in outputs if isinstance(item, dict)] if isinstance(outputs, list) else []
    chosen = [item for item in named if item.get("name") == "text_output"] or named[:1]
    return EventFacts(text="".join(str(text) for item in chosen for text in _flat(item.get("data"))))


def _flat(value: object) -> list[object]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _flat(item)]
    return [] if value is None else [value]


def _object(data: bytes) -> dict[str, Any] | EventFacts:
    try:
        event = orjson.loads(data)
    except ValueError:
        event = _lenient(data)
    if isinstance(event, EventFacts):
        return event
    if not isinstance(event, dict):
        return EventFacts(error=f"an event that is not an object: {data[:80]!r}")
    if event.get("object") == "error":  # vLLM before 0.10
        return EventFacts(error=error_text(event))
    return EventFacts(error=error_text(event["error"])) if event.get("error") else event


def _lenient(data: bytes) -> object:
    """Read what orjson refuses and Python's servers write: NaN, Infinity, and half of a surrogate pair."""
    try:
        return json.loads(data)
    except ValueError:
        return EventFacts(error=f"an event that is not JSON: {data[:80]!r}")
    except RecursionError:
        return EventFacts(error=f"an event nested too deeply: {data[:80]!r}")


def _joined(part: dict[str, Any], keys: tuple[str, ...]) -> str:
    found = ""
    for key in keys:
        value = part.get(key)
        if value and isinstance(value, str):
            found += value
    return found


def _calls(part: dict[str, Any]) -> str:
    calls = part.get("tool_calls")
    return json.dumps(calls) if calls else ""


def _usage(usage: object) -> tuple[int | None, int | None, int | None]:
    if not isinstance(usage, dict):
        return None, None, None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), cached


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def error_text(error: object) -> str:
    """Return the message of an OpenAI-style error object, or the thing itself as text; 300 characters at most."""
    if isinstance(error, dict) and error.get("message"):
        error = error["message"]
    return str(error)[:300]


class Shape(NamedTuple):
    """The bytes around the text of a stream's events.

    Attributes:
        opening: From the start of the event's data to its text.
        closing: From its text to its end.
        reasoning: Whether the text is reasoning.
    """

    opening: bytes
    closing: bytes
    reasoning: bool

    def holds(self, data: bytes) -> bool:
        """Return whether an event's data have this shape and a text that is not empty."""
        opening, closing = self.opening, self.closing
        return (
            data.startswith(opening)
            and data.endswith(closing)
            and len(data) > len(opening) + len(closing)
            and data.find(b'"', len(opening), len(data) - len(closing)) < 0
        )

    def text(self, data: bytes) -> bytes:
        """Return the text of an event that ``holds``, as JSON spells it, without its quotes."""
        return data[len(self.opening) : len(data) - len(self.closing)]


class Family(NamedTuple):
    """Shapes that differ in the answer's id and its time of making alone.

    Attributes:
        pattern: Matches an event of such a shape; its one group is the text.
        reasoning: Whether the text is reasoning.
    """

    pattern: re.Pattern[bytes]
    reasoning: bool

    def shape(self, data: bytes) -> Shape | None:
        """Return the shape of an event of this family; ``None``: it is of another."""
        found = self.pattern.fullmatch(data)
        if found is None:
            return None
        begin, end = found.span(1)
        return Shape(data[:begin], data[end:], self.reasoning)


_TEXT = re.compile(
    rb'"(text|content|reasoning_content|reasoning|text_output)"\s*:\s*"((?:[^"\\]|\\.)+)"',
)
_NAMES = re.compile(rb'("(?:id|request_id)"\s*:\s*)"[\w.:-]*"|("created"\s*:\s*)\d+')
_STRING = rb'((?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})+)'
"""The inside of a JSON string that is not empty (RFC 8259 section 7)."""

_ANY_NAME = rb'"[\w.:-]*"'
_ANY_TIME = rb"\d+"


def learn(data: bytes, read: EventReader) -> tuple[Shape, Family] | None:
    """Return the shape of an event that carries text, and its family; ``None`` where it does not show one for certain.

    An event teaches a shape when one key with text is found in it, and the same event without that text says
    nothing at all: so every event of that shape says its text and no more. No reader looks at an answer's id or
    time, so that holds for the whole family.
    """
    found = list(_TEXT.finditer(data))
    if len(found) != 1 or b"\n" in data:
        return None
    begin, end = found[0].span(2)
    shape = Shape(data[:begin], data[end:], found[0].group(1).startswith(b"reasoning"))
    said = read(data)
    if read(shape.opening + shape.closing) != EventFacts() or said.text != spelt(found[0].group(2)):
        return None
    if said.reasoning is not shape.reasoning:
        return None
    pattern = re.compile(_loosened(shape.opening) + _STRING + _loosened(shape.closing))
    return shape, Family(pattern, shape.reasoning)


def _loosened(part: bytes) -> bytes:
    """Return a pattern of these bytes in which ids and times may be others."""
    pattern, place = b"", 0
    for found in _NAMES.finditer(part):
        pattern += re.escape(part[place : found.start()])
        pattern += re.escape(found.group(1)) + _ANY_NAME if found.group(1) else re.escape(found.group(2)) + _ANY_TIME
        place = found.end()
    return pattern + re.escape(part[place:])


def spelt(text: bytes) -> str:
    """Return a JSON string's content, given without its quotes; what is not valid UTF-8 is replaced."""
    try:
        return str(json.loads(b'"' + text + b'"', strict=False))
    except ValueError:
        return text.decode("utf-8", errors="replace")
