from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_ci.stats import survivors

P = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def test_a_single_hypothesis_is_tested_as_it_is():
    assert survivors([0.04], 0.05) == (True,)
    assert survivors([0.06], 0.05) == (False,)
    assert survivors([], 0.05) == ()


def test_unchanged_cases_do_not_hide_a_slow_one():
    assert survivors([0.02, *[0.999] * 50], 0.05)[0]


def test_what_is_kept_is_divided_by_the_bar_it_passed():
    # 0.045 / 0.8 is above 0.05: setting others aside has its price.
    assert survivors([0.045, 0.95], 0.05) == (False, False)
    assert survivors([0.039, 0.95], 0.05) == (True, False)


def test_one_small_p_among_many_middling_ones_may_be_chance():
    assert not any(survivors([0.02, *[0.3] * 20], 0.05))


def test_many_small_ones_support_each_other():
    assert all(survivors([0.03, 0.02, 0.01], 0.05))


@given(P, st.integers(0, 29), st.floats(0, 1))
def test_a_smaller_p_never_loses(p_values, index, factor):
    index %= len(p_values)
    before = survivors(p_values, 0.05)
    p_values[index] *= factor
    after = survivors(p_values, 0.05)
    if before[index]:
        assert after[index]


@given(P)
def test_survivors_are_the_smallest(p_values):
    kept = survivors(p_values, 0.05)
    passed = [p for p, ok in zip(p_values, kept, strict=True) if ok]
    failed = [p for p, ok in zip(p_values, kept, strict=True) if not ok]
    assert max(passed, default=0) <= min(failed, default=1)


@given(P, st.randoms())
def test_the_order_does_not_matter(p_values, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    kept = survivors(p_values, 0.05)
    assert survivors([p_values[i] for i in order], 0.05) == tuple(kept[i] for i in order)


@pytest.mark.parametrize("share_at_the_limit", [1.0, 0.5, 0.1])
def test_the_share_of_false_alarms_stays_below_the_level(share_at_the_limit):
    # Nulls at the threshold have uniform p-values, those inside larger ones; a few true ones are mixed in.
    rng = np.random.default_rng(17)
    shares = []
    for _ in range(2000):
        uniform = rng.random(20)
        inside = 1 - rng.random(20) ** 3 * 0.5
        null = np.where(rng.random(20) < share_at_the_limit, uniform, inside)
        kept = np.array(survivors([*null, 1e-4, 1e-3, 5e-3], 0.05))
        shares.append(kept[:20].sum() / max(1, kept.sum()))
    assert np.mean(shares) <= 0.055
