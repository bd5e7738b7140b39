"""Seeded prompts of about the wanted length. Pure.

A prompt is a slice of one long random sequence of common words. That makes it cheap (one copy), different
for every request (so no prefix cache can answer it), and the same for the same seed. A word is about one
token; how many words make the wanted tokens is an estimate until ``calibrate`` has asked a tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from enginewatch_harness.load.words import WORDS

SEQUENCE_WORDS = 1 << 16
_STRIDE = 40_503
"""Odd, so it visits every place of a power of two before it comes back; near 2**16 over the golden ratio
(D. E. Knuth, "The Art of Computer Programming", volume 3, section 6.4), so neighbours are far apart."""

_PROBES = 3
_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLength:
    """How long the prompts are.

    Attributes:
        words: Words of each prompt.
        tokens_mean: Tokens that the probes had by the server's tokenizer; ``None``: the length is an estimate.
    """

    words: int
    tokens_mean: float | None = None


class PromptSource:
    """Prompts by number. The first 65,536 all begin at another place of the sequence."""

    __slots__ = ("_begins", "_first", "_text")

    def __init__(self, seed: int | np.random.SeedSequence, *, longest_words: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.integers(len(WORDS), size=SEQUENCE_WORDS)
        laps = 1 + -(-longest_words // SEQUENCE_WORDS)
        words = [WORDS[index].encode() for index in drawn.tolist()] * laps
        lengths = np.fromiter((len(word) + 1 for word in words), dtype=np.int64, count=len(words))
        self._text = b" ".join(words)
        self._begins = np.concatenate([[0], np.cumsum(lengths)])
        self._first = int(rng.integers(SEQUENCE_WORDS))

    def prompt(self, number: int, words: int) -> bytes:
        """Return prompt ``number`` with that many words: ASCII letters and single spaces.

        Raises:
            ValueError: ``words`` is below 1 or above the ``longest_words`` that the source was made for.
        """
        begin = (self._first + number * _STRIDE) % SEQUENCE_WORDS
        if words < 1 or begin + words >= self._begins.size:
            raise ValueError(f"a prompt of {words} words cannot be cut from this source")
        return self._text[int(self._begins[begin]) : int(self._begins[begin + words]) - 1]


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
        probes = [count_tokens(source.prompt(number, words).decode()) for number in range(_PROBES)]
        mean = sum(probes) / len(probes)
        if best.tokens_mean is None or abs(mean - isl) < abs(best.tokens_mean - isl):
            best = PromptLength(words=words, tokens_mean=mean)
        step = round((isl - mean) * words / mean) if mean > 0 else 0
        if step == 0:
            break
        words = min(max(1, words + step), longest_words)
    return best
