"""Length distributions: parsed strictly, of the stated mean, the same for the same number."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.draws import BLOCK, Draws
from enginewatch_harness.load.lengths import mean_of, parse_lengths, sampler

COUNT = 3 * BLOCK


def drawn(text: str | None, mean: int, seed: int = 1) -> np.ndarray:
    sample = sampler(parse_lengths(text, mean, name="isl"), seed, "isl")
    return np.array([sample(number) for number in range(COUNT)])


def test_a_fixed_length_is_fixed():
    assert set(drawn(None, 77)) == {77}
    assert set(drawn("data", 77)) == {77}  # of a record that tells none


@given(low=st.integers(1, 5_000), width=st.integers(0, 5_000), seed=st.integers(0, 2**32 - 1))
def test_uniform_lengths_fill_their_bounds(low, width, seed):
    text = f"uniform:{low}-{low + width}"
    found = drawn(text, mean_of(text), seed)
    assert low <= found.min() <= found.max() <= low + width
    # A mean of n draws is off by five of its standard errors less than once in a million.
    assert abs(found.mean() - (low + width / 2)) <= 5 * (width + 1) / 12**0.5 / COUNT**0.5
    if width < 200:
        assert len(set(found.tolist())) == width + 1


@given(mean=st.integers(40, 8_000), share=st.floats(0.01, 0.3), seed=st.integers(0, 2**32 - 1))
def test_normal_lengths_keep_mean_and_spread(mean, share, seed):
    spread = share * mean
    found = drawn(f"normal:{spread}", mean, seed)
    assert found.min() >= 1
    assert abs(found.mean() - mean) <= 5 * spread / COUNT**0.5 + 0.002 * mean
    assert found.std() == pytest.approx(spread, rel=0.08, abs=0.5)
    assert found.max() <= parse_lengths(f"normal:{spread}", mean, name="isl").high


@given(mean=st.integers(60, 8_000), sigma=st.floats(0.05, 1.0), seed=st.integers(0, 2**32 - 1))
def test_lognormal_lengths_keep_the_mean(mean, sigma, seed):
    found = drawn(f"lognormal:{sigma}", mean, seed)
    spread = mean * (np.exp(sigma**2) - 1) ** 0.5
    assert found.min() >= 1
    assert abs(found.mean() - mean) <= 6 * spread / COUNT**0.5 + 0.5
    assert np.log(found).std() == pytest.approx(sigma, rel=0.1, abs=0.02)


def test_a_draw_depends_on_seed_tag_and_number_alone():
    lengths = parse_lengths("lognormal:0.7", 300, name="isl")
    one, other = sampler(lengths, 9, "isl"), sampler(lengths, 9, "isl")
    numbers = [random.Random(4).randrange(40 * BLOCK) for _ in range(3_000)]
    expected = {number: one(number) for number in numbers}
    assert {number: other(number) for number in sorted(numbers)} == expected
    assert [sampler(lengths, 10, "isl")(number) for number in numbers[:50]] != [one(n) for n in numbers[:50]]
    assert [sampler(lengths, 9, "osl")(number) for number in numbers[:50]] != [one(n) for n in numbers[:50]]


def test_blocks_of_draws_do_not_repeat_and_memory_is_bounded():
    made = []
    draws = Draws(1, "x", lambda rng, count: made.append(count) or rng.integers(2**40, size=count))
    firsts = [draws.at(block * BLOCK) for block in range(30)]
    assert len(set(firsts)) == 30
    assert [draws.at(block * BLOCK) for block in range(22, 30)] == firsts[22:]
    assert len(made) == 30
    assert draws.at(0) == firsts[0]


@pytest.mark.parametrize(
    ("text", "mean", "words"),
    [
        ("gauss:3", 10, "write uniform:LOW-HIGH"),
        ("uniform", 10, "no bounds"),
        ("uniform:5-2", 10, "no bounds"),
        ("uniform:0-20", 10, "at least 1 token"),
        ("uniform:-5-20", 10, "no bounds"),
        ("uniform:10-30", 64, "is not the mean.*20.*set isl = 20"),
        ("normal:", 10, "no positive spread"),
        ("normal:-1", 10, "no positive spread"),
        ("normal:nan", 10, "no positive spread"),
        ("normal:inf", 10, "no positive spread"),
        ("normal:10", 10, "too wide"),
        ("lognormal:0", 10, "no positive spread"),
        ("lognormal:2", 2, "too wide"),
        ("lognormal:3.5", 1000, "too wide"),
        (None, 0, "at least 1 token"),
    ],
)
def test_what_cannot_be_drawn_is_refused(text, mean, words):
    with pytest.raises(UsageError, match=words):
        parse_lengths(text, mean, name="isl")


def test_only_uniform_states_a_mean():
    assert mean_of("uniform:10-31") == 20
    assert [mean_of(text) for text in (None, "data", "normal:3", "uniform:x-3")] == [None] * 4
