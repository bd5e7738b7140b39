"""Prompts: seeded, all different, of the wanted length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_harness.load.prompts import SEQUENCE_WORDS, EstimatedWriter, PromptLength, PromptSource, calibrate
from enginewatch_harness.load.words import WORDS

SOURCE = PromptSource(5, longest_words=SEQUENCE_WORDS)


@given(number=st.integers(0, 10**9), words=st.integers(1, SEQUENCE_WORDS))
def test_a_prompt_has_its_words(number, words):
    parts = SOURCE.text(number, words).split(" ")
    assert len(parts) == words
    assert set(parts) <= set(WORDS)


def test_prompts_differ_and_repeat_with_their_seed():
    prompts = [SOURCE.text(number, 12) for number in range(5_000)]
    assert len(set(prompts)) == 5_000
    again = PromptSource(5, longest_words=20)
    assert [again.text(number, 12) for number in range(50)] == prompts[:50]
    assert PromptSource(6, longest_words=20).text(0, 12) != prompts[0]


def test_prompts_begin_differently_even_in_a_long_run():
    """A prefix cache must not answer request 70,000 with what it kept of request 4,464."""
    numbers = [lap * SEQUENCE_WORDS + place for lap in (0, 1, 2, 831, 832, 900) for place in range(0, 2_000, 7)]
    begins = {" ".join(SOURCE.text(number, 16).split()[:8]) for number in numbers}
    assert len(begins) == len(numbers)
    for one, other in ((0, 1), (3, SEQUENCE_WORDS + 3)):
        assert SOURCE.text(one, 40).split()[:4] != SOURCE.text(other, 40).split()[:4]


def test_longer_than_the_sequence_and_impossible_lengths():
    source = PromptSource(1, longest_words=200_000)
    assert len(source.text(12_345, 200_000).split()) == 200_000
    for words in (0, 400_000):
        with pytest.raises(ValueError, match=str(words)):
            source.text(0, words)


def test_words_are_distinct_and_plain():
    assert len(set(WORDS)) == len(WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


@given(isl=st.integers(8, 3_000), per_word=st.floats(0.6, 2.5), added=st.integers(0, 5))
def test_calibration_finds_the_words_for_any_tokenizer(isl, per_word, added):
    def count(text: str) -> int:
        return round(len(text.split()) * per_word) + added

    found = calibrate(isl, SOURCE, count, longest_words=SEQUENCE_WORDS)
    assert abs(found.tokens_mean - isl) <= max(1.0, per_word)
    assert found.tokens_mean == pytest.approx(count(" ".join(["x"] * found.words)))
    assert found.wanted == isl
    assert found.added == pytest.approx(added, abs=1)  # two halves may round to one more or less


def test_calibration_cannot_go_below_one_word():
    found = calibrate(1, SOURCE, lambda text: 10 + len(text.split()), longest_words=SEQUENCE_WORDS)
    assert (found.words, found.tokens_mean, found.added) == (1, 11, 10)


@given(tokens=st.integers(5, 4_000), isl=st.integers(50, 2_000), per_word=st.integers(1, 3), added=st.integers(0, 3))
def test_other_lengths_follow_from_the_calibrated_one(tokens, isl, per_word, added):
    def count(text: str) -> int:
        return len(text.split()) * per_word + added

    length = calibrate(isl, SOURCE, count, longest_words=SEQUENCE_WORDS)
    writer = EstimatedWriter(SOURCE, length, longest_words=SEQUENCE_WORDS)
    text, told = writer.joined([(3, tokens)])
    assert told == tokens
    assert abs(count(text) - added - tokens) <= per_word + 0.02 * tokens
    assert "counted by the server" in writer.estimated


def test_the_calibrated_length_keeps_its_words_with_and_without_a_prefix():
    length = PromptLength(words=57, tokens_mean=63.7, added=1, tokens=64)
    writer = EstimatedWriter(SOURCE, length, longest_words=SEQUENCE_WORDS)
    assert len(writer.joined([(9, 63)])[0].split()) == 57
    both = writer.joined([(10**6, 40), (9, 23)])[0].split()
    assert len(both) == 57
    assert both[:30] == writer.joined([(10**6, 40), (10, 23)])[0].split()[:30]


def test_without_a_tokenizer_a_word_is_a_token_and_that_is_said():
    writer = EstimatedWriter(SOURCE, PromptLength(words=64), longest_words=SEQUENCE_WORDS)
    assert len(writer.joined([(0, 64)])[0].split()) == 64
    assert len(writer.joined([(0, 200)])[0].split()) == 200
    assert "not counted" in writer.estimated
