from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_ci.stats.noise import (
    MIN_HISTORY,
    MIN_RUN_SD,
    PRIOR_DF,
    floor_sd,
    history_sd,
    moderated_sd,
    pooled_variance,
    unequal_spread,
    within_sd,
)


def test_within_sd_reads_the_interval_back():
    half = 1.959964 * 0.02
    assert within_sd(float(np.exp(-half)), 1.0, float(np.exp(half))) == pytest.approx(0.02, rel=1e-5)


def test_one_end_of_an_interval_is_enough():
    half = 1.959964 * 0.02
    assert within_sd(float(np.exp(-half)), 1.0, None) == pytest.approx(0.02, rel=1e-5)
    assert within_sd(None, 1.0, float(np.exp(half))) == pytest.approx(0.02, rel=1e-5)


def test_no_interval_no_within_sd():
    assert within_sd(None, 1.0, None) is None
    assert within_sd(0.0, 1.0, 2.0) is None
    assert within_sd(None, 0.0, 2.0) is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 0.5)), max_size=8))
def test_the_floor_never_lies_below_the_smallest_believed_sd(within):
    assert floor_sd(within) >= MIN_RUN_SD


def test_the_floor_is_the_root_mean_square_of_the_known():
    assert floor_sd([0.03, None, 0.04]) == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2))


def test_history_sd_finds_the_run_to_run_sd():
    logs = np.random.default_rng(2).normal(3.0, 0.02, 400)
    assert history_sd(logs.tolist()) == pytest.approx(0.02, rel=0.15)


def test_a_step_in_the_past_is_not_noise():
    logs = np.random.default_rng(2).normal(3.0, 0.01, 60)
    logs[30:] += 0.5
    assert history_sd(logs.tolist()) < 0.02


def test_a_short_history_says_nothing():
    assert history_sd([1.0] * (MIN_HISTORY - 1)) is None
    assert history_sd([1.0] * MIN_HISTORY) == MIN_RUN_SD


def test_unequal_spread_sees_a_factor_of_ten_and_not_none():
    rng = np.random.default_rng(5)
    quiet, loud = rng.normal(0, 0.01, 10), rng.normal(0, 0.1, 10)
    assert unequal_spread(quiet, loud, 0.001)
    assert unequal_spread(loud, quiet, 0.001)
    assert not unequal_spread(quiet, quiet + 0.3, 0.001)


def test_spreads_below_the_floor_are_equal():
    assert not unequal_spread(np.array([0.0, 1e-9, -1e-9, 0]), np.array([0.0, 5e-4, -5e-4, 0]), 0.001)


def test_pooled_variance_is_about_that_of_normal_arms_and_bounded_under_an_outlier():
    rng = np.random.default_rng(6)
    found = [pooled_variance([rng.normal(0, 0.01, 4), rng.normal(1, 0.01, 4)], 0.01) for _ in range(400)]
    assert 1.0e-4 <= np.mean(found) <= 1.2e-4
    assert pooled_variance([np.array([0, 0.01, -0.01, 2.0]), np.zeros(4)], 0.01) < 0.01
    assert pooled_variance([np.zeros(1), np.zeros(1)], 0.01) is None


def test_moderation_lies_between_prior_and_own():
    arms = [np.array([0.0, 0.012, -0.012]), np.array([0.0, 0.012, -0.012])]
    own = np.sqrt(pooled_variance(arms, 0.01))
    sd, df = moderated_sd(arms, 0.01)
    assert min(own, 0.01) <= sd <= max(own, 0.01)
    assert df == PRIOR_DF + 4


def test_a_machine_noisier_than_its_history_is_not_vouched_for():
    arms = [np.array([0.0, 0.05, -0.06]), np.array([0.02, 0.08, -0.03])]
    assert moderated_sd(arms, 0.01) is None


def test_single_runs_take_the_history_alone():
    assert moderated_sd([np.zeros(1), np.zeros(1)], 0.01) == (0.01, PRIOR_DF)
