"""Seeded prompts of about the wanted length. Pure.

A prompt is a slice of one long random sequence of common words. That makes it cheap (one copy), different
for every request (so no prefix cache can answer it), and the same for the same seed. A word is about one
token; how many words make the wanted tokens is an estimate until ``calibrate`` has asked a tokenizer.
``exact.py`` has prompts of exact length.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from enginewatch_harness.load.words import WORDS

SEQUENCE_WORDS = 1 << 16
_STRIDE = 40_503
"""Odd, so it visits every place of a power of two before it comes back; near 2**16 over the golden ratio
(D. E. Knuth, "The Art of Computer Programming", volume 3, section 6.4), so neighbours are far apart."""

_PROBES = 3
_ROUNDS = 5
_ADDED_WORDS = 8


class Writer(Protocol):
    """Writes texts by number and length.

    Attributes:
        added: Tokens that the tokenizer adds to every prompt.
        estimated: Why lengths are estimates; ``None`` where they are exact.
    """

    added: int
    estimated: str | None

    def joined(self, parts: Sequence[tuple[int, int]]) -> tuple[str, int]:
        """Return a prompt of several texts and how many tokens it has, without the added ones.

        Args:
            parts: Number and wanted tokens of each text. The same number is the same text; texts of different
                numbers begin differently. There are more tokens only where so few cannot be met.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLength:
    """How long the prompts are.

    Attributes:
        words: Words of each prompt of ``tokens``.
        tokens_mean: Tokens that the probes had by the server's tokenizer; ``None``: the length is an estimate.
        added: Tokens of these that the tokenizer adds, as far as it was asked.
        tokens: Wanted tokens of these prompts; ``None``: as many as words.
    """

    words: int
    tokens_mean: float | None = None
    added: int = 0
    tokens: int | None = None

    @property
    def wanted(self) -> int:
        """Tokens that the prompts of ``words`` are meant to have."""
        return self.words if self.tokens is None else self.tokens

    @property
    def words_per_token(self) -> float:
        """Words that make one token of text."""
        if self.tokens_mean is None or self.tokens_mean <= self.added:
            return 1.0
        return self.words / (self.tokens_mean - self.added)


class WordSequence:
    """A long random sequence of words, and the places at which texts begin.

    Args:
        seed: The same seed gives the same sequence.
        words: What it is drawn from.
        longest_words: The longest text that is cut from it.
    """

    __slots__ = ("begins", "drawn", "first", "leads", "text")

    def __init__(self, seed: int, words: Sequence[str], *, longest_words: int) -> None:
        rng = random.Random(f"prompts {seed}")  # noqa: S311 (texts, not secrets; needs no import of numpy)
        drawn = rng.choices(range(len(words)), k=SEQUENCE_WORDS)
        self.first = rng.randrange(SEQUENCE_WORDS)
        laps = 1 + -(-longest_words // SEQUENCE_WORDS)
        self.drawn = array("H", drawn * laps)
        self.text = " ".join([words[index] for index in drawn] * laps) + " "
        self.begins = array("L", [0])
        lengths = [len(word) + 1 for word in words]
        begin = 0
        for index in self.drawn:
            begin += lengths[index]
            self.begins.append(begin)
        self.leads = tuple(words)

    def place(self, number: int) -> int:
        """Return where text ``number`` begins: 65,536 numbers in a row begin at as many places."""
        return (self.first + number * _STRIDE) % SEQUENCE_WORDS

    def lead(self, number: int) -> tuple[int, ...]:
        """Return the words, by index, that tell text ``number`` from those that begin at the same place."""
        lap, size, found = number // SEQUENCE_WORDS, len(self.leads), []
        while lap > 0:
            lap, index = divmod(lap, size)
            found.append(index)
        return tuple(found)

    def cut(self, begin: int, words: int) -> str:
        """Return ``words`` words from place ``begin`` on."""
        if words <= 0:
            return ""
        return self.text[self.begins[begin] : self.begins[begin + words] - 1]

    def words(self, number: int, words: int) -> str:
        """Return text ``number`` with that many words."""
        if number < SEQUENCE_WORDS:
            return self.cut(self.place(number), words)
        lead = self.lead(number)[:words]
        rest = self.cut(self.place(number), words - len(lead))
        opening = " ".join(self.leads[index] for index in lead)
        return f"{opening} {rest}" if rest else opening


class PromptSource:
    """Prompts by number. No two of a long run are alike."""

    __slots__ = ("_longest", "_sequence")

    def __init__(self, seed: int, *, longest_words: int) -> None:
        self._longest = longest_words
        self._sequence = WordSequence(seed, WORDS, longest_words=longest_words)

    def text(self, number: int, words: int) -> str:
        """Return prompt ``number`` with that many words: ASCII letters and single spaces.

        Raises:
            ValueError: ``words`` is below 1 or above the ``longest_words`` that the source was made for.
        """
        if not 1 <= words <= self._longest:
            raise ValueError(f"a prompt of {words} words cannot be cut from this source")
        return self._sequence.words(number, words)


class EstimatedWriter:
    """Writes texts by the estimate of words per token."""

    __slots__ = ("_asked", "_length", "_most", "_source", "added", "estimated")

    def __init__(self, source: PromptSource, length: PromptLength, *, longest_words: int) -> None:
        self._source, self._length, self._most = source, length, longest_words
        self._asked, self.added = length.wanted - length.added, length.added
        self.estimated: str | None = (
            f"{length.words} words for {length.wanted} tokens, not counted by a tokenizer"
            if length.tokens_mean is None
            else f"by {_PROBES} prompts of {length.tokens_mean:.1f} tokens on average, counted by the server"
        )

    def joined(self, parts: Sequence[tuple[int, int]]) -> tuple[str, int]:
        """Return a prompt of several texts of about that many tokens, and the sum of the wanted tokens."""
        wanted = sum(tokens for _, tokens in parts)
        # The length that was calibrated keeps its words to the letter.
        total = self._length.words if wanted == self._asked else round(wanted * self._length.words_per_token)
        texts = []
        for number, tokens in parts[:-1]:
            words = min(max(1, round(tokens * self._length.words_per_token)), self._most)
            texts.append(self._source.text(number, words))
            total -= words
        texts.append(self._source.text(parts[-1][0], min(max(1, total), self._most)))
        return " ".join(texts), max(len(parts), wanted)


def calibrate(
    isl: int, source: PromptSource, count_tokens: Callable[[str], int], *, longest_words: int
) -> PromptLength:
    """Find how many words make prompts of ``isl`` tokens.

    Args:
        isl: Wanted tokens, with those that the tokenizer adds.
        source: Where prompts come from.
        count_tokens: A tokenizer: text → number of tokens.
        longest_words: The most words that ``source`` can give.
    """
    words = min(isl, longest_words)
    best = PromptLength(words=words)
    for _ in range(_ROUNDS):
        probes = [count_tokens(source.text(number, words)) for number in range(_PROBES)]
        mean = sum(probes) / len(probes)
        if best.tokens_mean is None or abs(mean - isl) < abs(best.tokens_mean - isl):
            best = PromptLength(words=words, tokens_mean=mean)
        step = round((isl - mean) * words / mean) if mean > 0 else 0
        if step == 0:
            break
        words = min(max(1, words + step), longest_words)
    return PromptLength(words=best.words, tokens_mean=best.tokens_mean, added=_added(source, count_tokens), tokens=isl)


def _added(source: PromptSource, count_tokens: Callable[[str], int]) -> int:
    """Return the tokens that are added to every text: two texts apart have them twice, joined once."""
    one, two = source.text(0, _ADDED_WORDS), source.text(1, _ADDED_WORDS)
    return max(0, count_tokens(one) + count_tokens(two) - count_tokens(f"{one} {two}"))
