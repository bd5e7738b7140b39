"""The formats of request files, a request at a time, so that no file has to fit into memory."""

from __future__ import annotations

import difflib
import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.datasets import BLOCK_TOKENS, UNTOLD, Messages, Row, as_object

Rows = Iterator[tuple[str, Row]]
"""Place in the file, for errors, and request."""

HUMAN = ("human", "user")
MODEL = ("gpt", "assistant", "chatgpt", "bard", "bing", "model")
ROLES = {**dict.fromkeys(HUMAN, "user"), **dict.fromkeys(MODEL, "assistant"), "system": "system"}
MOST_TOKENS = 100_000_000
OWN_KEYS = (
    "timestamp_ms",
    "at_s",
    "prompt",
    "messages",
    "input_tokens",
    "output_tokens",
    "session",
    "delay_ms",
)
_CHUNK = 1 << 20
_LONGEST_S = 1e9


def rows_of(path: Path, format_: str | None, *, turns: int) -> tuple[str, Rows]:
    """Return the format of a file and its requests.

    Raises:
        UsageError: The file is empty or of no known format.
    """
    name = format_ or detect(path)
    if name == "mooncake":
        return name, _mooncake(path)
    if name == "sharegpt":
        return name, _sharegpt(path, turns)
    return name, _own(path)


def detect(path: Path) -> str:
    """Return the format of a file by how it begins.

    Raises:
        UsageError: It begins like none of them.
    """
    try:
        with path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"")
    except OSError as error:
        raise UsageError(f"cannot read the dataset {path}: {error.strerror}", remedy="correct dataset.path") from error
    begin = line.lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin.startswith(b"["):
        return "sharegpt"
    if not begin.startswith(b"{"):
        raise UsageError(
            f"the dataset {path} begins with {begin[:20]!r}, which is no JSON",
            remedy="give a Mooncake trace, a ShareGPT list or JSONL",
        )
    keys = as_object(begin, f"{path}:1").keys()
    if "conversations" in keys:
        return "sharegpt"
    return "mooncake" if {"timestamp", "input_length"} <= keys or "hash_ids" in keys else "jsonl"


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"{path}:{number}"
                yield place, as_object(line.lstrip(b"\xef\xbb\xbf") if number == 1 else line, place)


# --- Mooncake: {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}


def _mooncake(path: Path) -> Rows:
    for place, found in _lines(path):
        if "timestamp" not in found or "input_length" not in found:
            missing = "timestamp" if "timestamp" not in found else "input_length"
            raise UsageError(f"{place} has no {missing}", remedy="Mooncake traces have it in every line")
        tokens = _whole(found["input_length"], place, "input_length")
        yield (
            place,
            Row(
                at_ns=_ns(found["timestamp"], place, "timestamp", per_unit=1e6),
                input_tokens=tokens,
                output_tokens=_whole(found.get("output_length"), place, "output_length"),
                blocks=_blocks(found.get("hash_ids"), tokens, place),
            ),
        )


def _blocks(value: Any, tokens: int, place: str) -> array[int] | None:  # noqa: ANN401 (any JSON value)
    if value is None:
        return None
    try:
        blocks = array("q", value)
    except (TypeError, OverflowError) as error:
        raise UsageError(
            f"{place}: hash_ids is no list of whole numbers below 2**63", remedy="leave it out, or correct it"
        ) from error
    # Writers differ in whether a last block that is not full has a hash.
    if not tokens // BLOCK_TOKENS <= len(blocks) <= -(-tokens // BLOCK_TOKENS):
        raise UsageError(
            f"{place}: {len(blocks)} hash_ids for {tokens} tokens; a block has {BLOCK_TOKENS}",
            remedy="leave hash_ids out, or correct it",
        )
    return blocks


# --- ShareGPT: [{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}]


def _sharegpt(path: Path, turns: int) -> Rows:
    for number, (place, found) in enumerate(_conversations(path)):
        said = found.get("conversations")
        if not isinstance(said, list):
            raise UsageError(f"{place} has no list 'conversations'", remedy="check that this is a ShareGPT file")
        yield from _talk(said, number, place, turns)


def _talk(said: list[Any], number: int, place: str, turns: int) -> Rows:
    """Yield the human turns of a conversation that are followed by an answer."""
    history: list[tuple[str, str]] = []
    waiting: str | None = None
    done = 0
    for message in said:
        role, text = _message(message, "from", "value", place)
        if role == "system" and not done and waiting is None:
            history.append((role, text))
        elif role == "user":
            waiting = text if text.strip() else None
        elif role == "assistant" and waiting is not None and text.strip():
            # Later turns are given their history when they are sent: with the answers that came.
            before: Messages = tuple(history) if not done else ()
            yield place, Row(prompt=waiting, history=before, answer=text, session=number)
            waiting, done = None, done + 1
            if done == turns:
                return


def _message(message: object, role_key: str, text_key: str, place: str) -> tuple[str, str]:
    role = message.get(role_key) if isinstance(message, dict) else None
    text = message.get(text_key) if isinstance(message, dict) else None
    if not isinstance(role, str) or not isinstance(text, str):
        raise UsageError(f"{place}: a message without {role_key!r} and {text_key!r} as texts", remedy="correct it")
    return ROLES.get(role.lower(), "other"), text


def _conversations(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON list, reading on as they are needed; or of JSONL."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        buffer, line, at_end = file.read(_CHUNK), 1, False
        start = len(buffer) - len(buffer.lstrip())
        if buffer[start : start + 1] == "{":
            yield from _lines(path)
            return
        position = start + 1
        line += buffer.count("\n", 0, position)
        while True:
            begin = position
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                position += 1
            line += buffer.count("\n", begin, position)
            if position < len(buffer):
                if buffer[position] == "]":
                    return
                try:
                    found, end = decoder.raw_decode(buffer, position)
                except ValueError as error:
                    if at_end:
                        raise UsageError(f"{path}:{line} is not JSON: {error}", remedy="is the file whole?") from error
                else:
                    if not isinstance(found, dict):
                        raise UsageError(f"{path}:{line} is no object", remedy="check that this is a ShareGPT file")
                    yield f"{path}:{line}", found
                    line += buffer.count("\n", position, end)
                    position = end
                    continue
            elif at_end:
                raise UsageError(f"{path}:{line} ends inside its list", remedy="is the file whole?")
            # An object that is longer than what was read needs twice as much, so no file is read quadratically.
            chunk = file.read(max(_CHUNK, len(buffer) - position))
            at_end = not chunk
            buffer, position = buffer[position:] + chunk, 0


# --- own JSONL


def _own(path: Path) -> Rows:
    for place, found in _lines(path):
        for key in found:
            if key not in OWN_KEYS:
                near = difflib.get_close_matches(key, OWN_KEYS, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(OWN_KEYS)}"
                raise UsageError(f"{place} has an unknown key {key!r}", remedy=hint)
        yield place, _own_row(found, place)


def _own_row(found: dict[str, Any], place: str) -> Row:
    if "timestamp_ms" in found and "at_s" in found:
        raise UsageError(f"{place} has both timestamp_ms and at_s", remedy="give one of them")
    if "prompt" in found and "messages" in found:
        raise UsageError(f"{place} has both prompt and messages", remedy="give one of them")
    at_ns: int | None = None
    if "timestamp_ms" in found:
        at_ns = _ns(found["timestamp_ms"], place, "timestamp_ms", per_unit=1e6)
    elif "at_s" in found:
        at_ns = _ns(found["at_s"], place, "at_s", per_unit=1e9)
    session = found.get("session")
    if session is not None and (isinstance(session, bool) or not isinstance(session, str | int)):
        raise UsageError(f"{place}: session = {session!r} is neither text nor a whole number", remedy="correct it")
    history, prompt = _texts(found, place)
    return Row(
        at_ns=at_ns,
        input_tokens=_whole(found.get("input_tokens"), place, "input_tokens"),
        output_tokens=_whole(found.get("output_tokens"), place, "output_tokens"),
        prompt=prompt,
        history=history,
        session=session,
        delay_ns=_ns(found.get("delay_ms", 0), place, "delay_ms", per_unit=1e6),
    )


def _texts(found: dict[str, Any], place: str) -> tuple[Messages, str | None]:
    if "messages" not in found:
        prompt = found.get("prompt")
        if prompt is not None and (not isinstance(prompt, str) or not prompt):
            raise UsageError(f"{place}: prompt is no text", remedy="leave it out, or give a text")
        return (), prompt
    messages = found["messages"]
    if not isinstance(messages, list) or not messages:
        raise UsageError(f"{place}: messages is no list of messages", remedy="give role and content of each")
    said = [_message(message, "role", "content", place) for message in messages]
    if said[-1][0] != "user" or any(role == "other" for role, _ in said):
        raise UsageError(
            f"{place}: messages must have roles system, user and assistant, and end with the user's",
            remedy="correct the roles",
        )
    return tuple(said[:-1]), said[-1][1]


# --- values


def _whole(value: object, place: str, key: str) -> int:
    if value is None:
        return UNTOLD
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise UsageError(f"{place}: {key} = {value!r} is no number of tokens", remedy="give a whole number")
    # A recorded request without output was cancelled; the shortest that can be asked for is one token.
    return max(1, value)


def _ns(value: object, place: str, key: str, *, per_unit: float) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{place}: {key} = {value!r} is no time", remedy="give a number of at least 0")
    if value * per_unit > _LONGEST_S * 1e9 * 10:
        raise UsageError(f"{place}: {key} = {value!r} is too large", remedy="check its unit")
    return round(value * per_unit)
