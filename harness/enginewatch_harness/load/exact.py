"""Prompts of an exact number of tokens by the model's tokenizer. Pure, but for the tokenizer itself.

Most tokenizers split at spaces first, so a text has the sum of its words' tokens. ``learn`` counts every word once
and proves the sum on a text in which every word has many neighbours; from then on a prompt of exactly ``n`` tokens
is a slice, found by bisection, and a few words that close the gap. No process but the first needs the tokenizer.
Where a tokenizer joins words, each prompt is counted and corrected until it fits.
"""

from __future__ import annotations

import random
import string
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from enginewatch_harness.load.prompts import SEQUENCE_WORDS, WordSequence
from enginewatch_harness.load.words import WORDS

ENOUGH_WORDS = 256
"""With so many words of one token each, the others are not needed."""

_T = TypeVar("_T")
_BASE = "the"
_FILL_TO = 96
_PROBES = 32
_ROUNDS = 10
_OTHER_BEGINS = 4
_FILLERS = (
    *string.ascii_lowercase,
    *string.digits,
    *(string.ascii_lowercase[:length] for length in range(2, 27)),
)
"""Words for closing gaps where no common word has the missing number of tokens: tiny vocabularies."""


class Counter(Protocol):
    """What a tokenizer can do, see ``tokenizer.TextCounter``."""

    added: int

    def count(self, text: str) -> int:
        """Return the tokens of a prompt."""

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """What there is to know of a tokenizer for writing prompts with it. Small, so it can be sent to processes.

    Attributes:
        words: Words that prompts are made of.
        counts: Tokens of each behind a space.
        opens: Tokens of each at the beginning of a text.
        fill: Words for closing a gap of as many tokens as the index; ``None`` where none fit.
        opening_fill: The same at the beginning of a text.
        added: Tokens that the tokenizer adds to every prompt.
        additive: Whether the tokens of a text are the sum of its words' tokens.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    opens: tuple[int, ...]
    fill: tuple[str | None, ...]
    opening_fill: tuple[str | None, ...]
    added: int
    additive: bool


def learn(counter: Counter) -> TokenTable:
    """Count every word, and find out whether counts add up."""
    candidates = list(dict.fromkeys((*WORDS, *_FILLERS)))
    opening = counter.count_all(candidates)
    behind = counter.count_all([f"{_BASE} {word}" for word in candidates])
    base = counter.count(_BASE)
    known = {
        word: (first - counter.added, following - base)
        for word, first, following in zip(candidates, opening, behind, strict=True)
        if first > counter.added and following > base
    }
    common = [word for word in WORDS if word in known]
    plain = [word for word in common if known[word] == (1, 1)]
    words = plain if len(plain) >= ENOUGH_WORDS else common
    fill = _fill({known[word][1]: word for word in reversed(known)})
    table = TokenTable(
        words=tuple(words),
        counts=tuple(known[word][1] for word in words),
        opens=tuple(known[word][0] for word in words),
        fill=fill,
        opening_fill=_opening_fill({known[word][0]: word for word in reversed(known)}, fill),
        added=counter.added,
        additive=False,
    )
    return TokenTable(
        words=table.words,
        counts=table.counts,
        opens=table.opens,
        fill=table.fill,
        opening_fill=table.opening_fill,
        added=table.added,
        additive=_adds_up(table, counter),
    )


def _fill(coins: dict[int, str]) -> tuple[str | None, ...]:
    """Return the fewest words for every number of tokens; ``coins`` has one word per count."""
    found: list[tuple[str, ...] | None] = [()]
    for tokens in range(1, _FILL_TO + 1):
        options = [(*rest, word) for count, word in coins.items() if (rest := _at(found, tokens - count)) is not None]
        found.append(min(options, key=len) if options else None)
    return tuple(None if words is None else " ".join(words) for words in found)


def _opening_fill(coins: dict[int, str], fill: tuple[str | None, ...]) -> tuple[str | None, ...]:
    found: list[str | None] = [None]
    for tokens in range(1, _FILL_TO + 1):
        options = [
            f"{word} {rest}".strip()
            for count, word in sorted(coins.items(), reverse=True)
            if (rest := _at(fill, tokens - count)) is not None
        ]
        found.append(options[0] if options else None)
    return tuple(found)


def _at(items: Sequence[_T], index: int) -> _T | None:
    return items[index] if index >= 0 else None


def _adds_up(table: TokenTable, counter: Counter) -> bool:
    if not table.words:
        return False
    writer = ExactWriter(table, 0, longest=SEQUENCE_WORDS)
    rng = random.Random(0)  # noqa: S311 (probes, not secrets)
    asked = [(rng.randrange(1 << 20), rng.randint(1, 600)) for _ in range(_PROBES)]
    probes = [writer.joined([part, (part[0] + 1, 40)]) for part in asked]
    probes.append(writer.joined([(0, SEQUENCE_WORDS)]))
    counted = counter.count_all([text for text, _ in probes])
    return counted == [tokens + table.added for _, tokens in probes]


class ExactWriter:
    """Writes texts of exact length by a table, for tokenizers whose counts add up.

    Args:
        table: What ``learn`` found.
        seed: Seed of the texts.
        longest: Tokens of the longest text.
    """

    __slots__ = ("_highest", "_reach", "_sequence", "_sums", "_table", "added", "estimated")

    def __init__(self, table: TokenTable, seed: int, *, longest: int) -> None:
        self._table, self.added = table, table.added
        self.estimated: str | None = None
        self._sequence = WordSequence(seed, table.words, longest_words=longest)
        self._sums = array("L", [0])
        total = 0
        for index in self._sequence.drawn:
            total += table.counts[index]
            self._sums.append(total)
        self._reach = _reach(table)

    def joined(self, parts: Sequence[tuple[int, int]]) -> tuple[str, int]:
        """Return a prompt of several texts, ``(number, tokens)`` each, and its tokens, without the added ones."""
        if len(parts) == 1:
            return self.text(*parts[0], opening=True)
        texts, total = [], 0
        for index, (number, tokens) in enumerate(parts):
            text, found = self.text(number, tokens, opening=index == 0)
            texts.append(text)
            total += found
        return " ".join(texts), total

    def text(self, number: int, tokens: int, *, opening: bool) -> tuple[str, int]:
        """Return text ``number`` and its tokens; they are more than asked for only where so few cannot be met."""
        table, sequence = self._table, self._sequence
        begin = sequence.place(number)
        lead = sequence.lead(number)
        room = tokens - sum(table.counts[index] for index in lead) if lead else tokens
        if opening:
            first = lead[0] if lead else sequence.drawn[begin]
            room -= table.opens[first] - table.counts[first]
        end = bisect_right(self._sums, self._sums[begin] + room - self._reach, begin) - 1
        if end <= begin:
            return self._short(tokens, opening=opening)
        gap = room - (self._sums[end] - self._sums[begin])
        text = sequence.cut(begin, end - begin)
        if lead:
            text = f"{' '.join(table.words[index] for index in lead)} {text}"
        closing = table.fill[gap]
        return (f"{text} {closing}" if closing else text), tokens

    def _short(self, tokens: int, *, opening: bool) -> tuple[str, int]:
        fill = self._table.opening_fill if opening else self._table.fill
        for count in range(max(1, tokens), len(fill)):
            text = fill[count]
            if text:
                return text, count
        raise ValueError(f"no text of {tokens} tokens can be written with this tokenizer")


def _reach(table: TokenTable) -> int:
    """Return the smallest gap from which on every gap that a slice can leave can be closed."""
    widest = max(table.counts)
    for reach in range(len(table.fill) - widest):
        if all(table.fill[gap] is not None for gap in range(reach, reach + widest)):
            return reach
    raise ValueError("the tokenizer's words cannot be combined to every length")


class MeasuredWriter:
    """Writes texts of exact length for tokenizers that join words: counts and corrects each.

    Args:
        writer: Makes the first guess.
        count: The tokenizer.
    """

    __slots__ = ("_count", "_writer", "added", "estimated")

    def __init__(self, writer: ExactWriter, count: Callable[[str], int]) -> None:
        self._writer, self._count = writer, count
        self.added = writer.added
        self.estimated: str | None = None

    def joined(self, parts: Sequence[tuple[int, int]]) -> tuple[str, int]:
        """Return a prompt of several texts and its tokens, without the added ones; only the last is corrected."""
        wanted = sum(tokens for _, tokens in parts)
        best: tuple[str, int] | None = None
        for text, tokens in self._attempts(parts, wanted):
            if best is None or abs(tokens - wanted) < abs(best[1] - wanted):
                best = text, tokens
            if tokens == wanted:
                break
        return best or ("", 0)

    def _attempts(self, parts: Sequence[tuple[int, int]], wanted: int) -> Iterator[tuple[str, int]]:
        number, tokens = parts[-1]
        for other in range(_OTHER_BEGINS):
            ask = tokens
            for _ in range(_ROUNDS):
                text, _ = self._writer.joined([*parts[:-1], (number + other * SEQUENCE_WORDS, ask)])
                found = self._count(text) - self.added
                yield text, found
                ask = max(1, ask + wanted - found)
