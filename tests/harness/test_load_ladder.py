"""Levels of a load test as the command line writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.ladder import MAX_LEVELS, concurrencies, rates


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("1,8,32", (1, 8, 32)),
        ("32, 8,8 ,1", (32, 8, 1)),
        ("1-64", (1, 2, 4, 8, 16, 32, 64)),
        ("1-50", (1, 2, 4, 8, 16, 32, 50)),
        ("1-64:x4", (1, 4, 16, 64)),
        ("2-10:+2", (2, 4, 6, 8, 10)),
        ("1-4,16", (1, 2, 4, 16)),
        ("7-7", (7,)),
    ],
)
def test_streams(text, levels):
    assert concurrencies(text) == levels


def test_rates_may_be_fractions():
    assert rates("0.5-2,7.5") == (0.5, 1.0, 2.0, 7.5)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is not a number"),
        ("1,,2", "'' is not a number"),
        ("0", "not positive"),
        ("1.5", "no whole number"),
        ("8-1", "ends below its start"),
        ("1-64:x1", "never ends"),
        ("1-64:x0.5", "never ends"),
        ("1-1000:+1", "more than 100 levels"),
        ("nan", "not positive"),
        ("inf", "not positive"),
        ("-4", "not positive"),
        ("a-b", "not a number"),
    ],
)
def test_what_cannot_be_obeyed_is_named(text, why):
    with pytest.raises(UsageError, match=why) as caught:
        concurrencies(text)
    assert repr(text) in caught.value.message
    assert "1-64" in str(caught.value.remedy)


@given(low=st.integers(1, 500), factor=st.floats(1.05, 10), step=st.floats(1.1, 8))
def test_a_range_starts_and_ends_as_written_and_ascends(low, factor, step):
    high = low * factor
    found = rates(f"{low}-{high:.6f}:x{step:.4f}")
    assert found[0] == low
    assert found[-1] == pytest.approx(high, rel=1e-5)
    assert list(found) == sorted(found)
    assert len(found) <= MAX_LEVELS + 1
