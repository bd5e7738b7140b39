"""The score interval: SciPy's, and never past the estimate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from enginewatch_harness.load.wilson import wilson_bounds, wilson_interval


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys_and_holds_the_share(drawn):
    successes, n = drawn
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_no_share_has_no_interval():
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="no share"):
            wilson_interval(successes, n)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(1, 50))
def test_dispersion_only_widens_it(drawn, dispersion):
    good, n = drawn
    low, high = wilson_bounds(good / n, n, 1.645)
    wider_low, wider_high = wilson_bounds(good / n, n / dispersion, 1.645)
    assert wider_low <= low + 1e-12
    assert wider_high >= high - 1e-12
