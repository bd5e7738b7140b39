"""Files that requests come from: Mooncake traces, ShareGPT conversations and own JSONL, read into columns.

Own JSONL has one request a line, with any of these keys: ``timestamp_ms`` or ``at_s`` (since any origin, ascending),
``prompt`` or ``messages``, ``input_tokens``, ``output_tokens``, ``session`` and ``delay_ms``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.spec import Dataset

MOST_TEXT = 64 << 20
"""Characters of prompts and history that are kept; what comes later in the file is left out, and a note says so."""

BLOCK_TOKENS = 512
"""Tokens that one ``hash_ids`` entry of a Mooncake trace stands for (R. Qin et al., "Mooncake", FAST 2025)."""

UNTOLD = 0
"""In the columns of token counts: the file does not say. No request has 0 tokens."""

Messages = tuple[tuple[str, str], ...]
"""Role and text of earlier messages."""


@dataclass(slots=True, kw_only=True)
class Row:
    """One request of a file, before it goes into the columns.

    Attributes:
        at_ns: When it was sent.
        input_tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer.
        blocks: Mooncake's block hashes.
        prompt: The text.
        history: The messages before it.
        answer: The recorded answer, where its tokens are not told.
        session: Requests of the same session belong together.
        delay_ns: Pause before it.
    """

    at_ns: int | None = None
    input_tokens: int = UNTOLD
    output_tokens: int = UNTOLD
    blocks: array[int] | None = None
    prompt: str | None = None
    history: Messages = ()
    answer: str | None = None
    session: str | int | None = None
    delay_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The requests of a file, one place per request in every column.

    Attributes:
        format: Which format the file has.
        at_ns: Time since the first request, ascending; ``None`` where the file has no times.
        inputs: Tokens of the prompts; ``UNTOLD`` where not told.
        outputs: Tokens of the answers.
        delays_ns: Pause before a request.
        prompts: Texts; empty where the file has none.
        histories: Messages before a request, by its place, where there are any.
        blocks: Block hashes of all requests, one after the other.
        block_ends: Where the blocks of each request end; empty where the file has none.
        sessions: Where each session begins; at the end, the number of requests. A request that stands alone is a
            session of one.
        notes: What a reader of the numbers needs to know.
    """

    format: str
    at_ns: array[int] | None
    inputs: array[int]
    outputs: array[int]
    delays_ns: array[int]
    prompts: tuple[str, ...]
    histories: dict[int, Messages]
    blocks: array[int]
    block_ends: array[int]
    sessions: array[int]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Sessions in the file; requests, where they stand alone."""
        return len(self.sessions) - 1

    def blocks_of(self, place: int) -> array[int]:
        """Return the block hashes of a request; empty where it has none."""
        if not self.block_ends:
            return self.block_ends
        return self.blocks[self.block_ends[place - 1] if place else 0 : self.block_ends[place]]

    def starts_ns(self) -> Iterator[int]:
        """Yield when each session begins; nothing where the file has no times."""
        if self.at_ns is not None:
            for begin in self.sessions[:-1]:
                yield self.at_ns[begin]


def read_dataset(dataset: Dataset, *, turns: int, count_answers: Callable[[list[str]], list[int]] | None) -> Records:
    """Read a file.

    Args:
        dataset: The file, and its format unless it is to be found out.
        turns: Most requests of a session; 1 takes every request for itself, and of a conversation the first.
        count_answers: A tokenizer for recorded answers; ``None`` estimates their tokens by their characters.

    Raises:
        UsageError: Names the file, the line and what is wrong.
    """
    from enginewatch_harness.load.dataset_formats import rows_of

    path = dataset.path
    if not path.is_file():
        raise UsageError(f"there is no dataset {path}", remedy="correct dataset.path")
    gathered = _Gathered(turns=turns)
    name, rows = rows_of(path, dataset.format, turns=turns)
    try:
        for place, row in rows:
            if not gathered.add(row, place):
                break
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the dataset {path}: {error}", remedy="give a UTF-8 file") from error
    if not gathered.rows:
        raise UsageError(f"the dataset {path} has no request in it", remedy=f"check that it is {name}")
    return gathered.records(name, count_answers)


CHARS_PER_TOKEN = 4.0
"""Of English text: OpenAI's rule of thumb ("What are tokens and how to count them?"), used without a tokenizer."""

_SAMPLE_ANSWERS = 256


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """Columns that grow while a file is read."""

    turns: int
    rows: int = 0
    characters: int = 0
    timed: bool | None = None
    cut_at: str | None = None
    at_ns: array[int] = field(default_factory=lambda: array("q"))
    inputs: array[int] = field(default_factory=lambda: array("q"))
    outputs: array[int] = field(default_factory=lambda: array("q"))
    delays_ns: array[int] = field(default_factory=lambda: array("q"))
    prompts: list[str] = field(default_factory=list)
    histories: dict[int, Messages] = field(default_factory=dict)
    blocks: array[int] = field(default_factory=lambda: array("q"))
    block_ends: array[int] = field(default_factory=lambda: array("q"))
    left_out: int = 0
    members: dict[str | int | tuple[str, int], list[int]] = field(default_factory=dict)
    answer_lengths: dict[int, int] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)

    def add(self, row: Row, place: str) -> bool:
        """Take a request in; ``False`` when there is no room for more."""
        size = len(row.prompt or "") + sum(len(text) for _, text in row.history)
        if self.characters + size > MOST_TEXT and self.rows:
            self.cut_at = place
            return False
        self.characters += size
        self._take_time(row, place)
        self._take_texts(row, place)
        index = self.rows
        self.inputs.append(row.input_tokens)
        self.outputs.append(row.output_tokens)
        self.delays_ns.append(row.delay_ns)
        self.blocks.extend(row.blocks or ())
        self.block_ends.append(len(self.blocks))
        if self.turns > 1:
            members = self.members.setdefault(("alone", index) if row.session is None else row.session, [])
            if len(members) < self.turns:
                members.append(index)
            else:
                self.left_out += 1
        self.rows += 1
        return True

    def _take_time(self, row: Row, place: str) -> None:
        if self.timed is None:
            self.timed = row.at_ns is not None
        if self.timed != (row.at_ns is not None):
            raise UsageError(
                f"{place}: this request has {'no' if self.timed else 'a'} time, unlike those before it",
                remedy="give a time for every request or for none",
            )
        if row.at_ns is not None:
            if self.at_ns and row.at_ns < self.at_ns[-1]:
                raise UsageError(
                    f"{place}: this request is {(self.at_ns[-1] - row.at_ns) / 1e6:g} ms earlier than the one before",
                    remedy="sort the file by time",
                )
            self.at_ns.append(row.at_ns)

    def _take_texts(self, row: Row, place: str) -> None:
        if self.rows and bool(self.prompts) != (row.prompt is not None):
            raise UsageError(
                f"{place}: this request has {'no' if self.prompts else 'a'} text, unlike those before it",
                remedy="give a prompt or messages for every request or for none",
            )
        if row.prompt is not None:
            self.prompts.append(row.prompt)
        if row.history:
            self.histories[self.rows] = row.history
        if row.answer is not None and row.output_tokens == UNTOLD:
            self.answer_lengths[self.rows] = len(row.answer)
            if len(self.answers) < _SAMPLE_ANSWERS:
                self.answers.append(row.answer)

    def records(self, name: str, count_answers: Callable[[list[str]], list[int]] | None) -> Records:
        """Return the columns in the order of the sessions' first requests."""
        notes = self._count_answers(count_answers)
        if self.cut_at is not None:
            notes.append(f"the dataset is used up to {self.cut_at}: {MOST_TEXT >> 20} Mi characters are kept")
        if self.left_out:
            notes.append(f"{self.left_out} requests of the dataset are left out: sessions have {self.turns} turns")
        sessions = self._sessions()
        first_ns = self.at_ns[0] if self.at_ns else 0
        return Records(
            format=name,
            at_ns=array("q", [at_ns - first_ns for at_ns in self.at_ns]) if self.timed else None,
            inputs=self.inputs,
            outputs=self.outputs,
            delays_ns=self.delays_ns,
            prompts=tuple(self.prompts),
            histories=self.histories,
            blocks=self.blocks,
            block_ends=self.block_ends if self.blocks else array("q"),
            sessions=sessions,
            notes=tuple(notes),
        )

    def _count_answers(self, count: Callable[[list[str]], list[int]] | None) -> list[str]:
        if not self.answer_lengths:
            return []
        per_token = CHARS_PER_TOKEN
        if count is not None and (tokens := sum(count(self.answers))) > 0:
            per_token = sum(len(text) for text in self.answers) / tokens
        for index, characters in self.answer_lengths.items():
            self.outputs[index] = max(1, round(characters / per_token))
        how = "a rule of thumb" if count is None else f"{len(self.answers)} of them"
        return [f"output lengths are the recorded answers' characters over {per_token:.2f}, by {how}"]

    def _sessions(self) -> array[int]:
        if self.turns == 1:
            return array("q", range(self.rows + 1))
        order = [index for members in self.members.values() for index in members]
        if order != list(range(self.rows)):
            self._reorder(order)
        sessions = array("q", [0])
        for members in self.members.values():
            sessions.append(sessions[-1] + len(members))
        return sessions

    def _reorder(self, order: list[int]) -> None:
        """Bring the requests of a session together; blocks belong to single requests and go."""
        for column in ("at_ns", "inputs", "outputs", "delays_ns"):
            old: array[int] = getattr(self, column)
            setattr(self, column, array("q", [old[index] for index in order]) if old else old)
        if self.prompts:
            self.prompts = [self.prompts[index] for index in order]
        self.histories = {place: self.histories[index] for place, index in enumerate(order) if index in self.histories}
        self.blocks, self.block_ends = array("q"), array("q")
        self.rows = len(order)


def sha256_of(path: Path) -> str:
    """Return the content hash that tells a dataset from others of its name.

    Raises:
        UsageError: It cannot be read.
    """
    import hashlib

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read the dataset {path}: {error.strerror}", remedy="correct dataset.path") from error


def as_object(text: str | bytes, place: str) -> dict[str, Any]:
    """Return the JSON object in ``text``.

    Raises:
        UsageError: It is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{place} is not JSON: {error}", remedy="write one JSON object a line") from error
    if not isinstance(found, dict):
        raise UsageError(f"{place} holds {type(found).__name__}, not an object", remedy="write one JSON object a line")
    return found
