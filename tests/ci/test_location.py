from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enginewatch_ci.stats import location
from enginewatch_ci.stats.location import centred, huber, robust_scale

VALUES = arrays(np.float64, st.integers(3, 12), elements=st.floats(-2, 2))


def test_robust_scale_of_a_normal_sample_is_its_sd():
    rng = np.random.default_rng(1)
    values = rng.normal(5, 0.3, 20_001)
    assert robust_scale(centred(values), fitted=1)[0] == pytest.approx(0.3, rel=0.03)


def test_robust_scale_leaves_the_zero_of_the_median_out():
    # Of three values one deviation is zero by construction: the scale is that of the other two.
    assert robust_scale(centred(np.array([1.0, 2.0, 4.0])), fitted=1)[0] == pytest.approx(1.4826 * 1.5)
    assert robust_scale(np.zeros(2), fitted=2)[0] == 0.0


@given(VALUES, st.floats(-3, 3))
def test_huber_moves_with_the_values(values, shift):
    scale = np.maximum(robust_scale(centred(values), fitted=1), 1e-3)
    here, variance = huber(values, scale)
    there, same = huber(values + shift, scale)
    assert float(there) == pytest.approx(float(here) + shift, abs=1e-9)
    assert float(same) == pytest.approx(float(variance), rel=1e-6, abs=1e-12)


@given(VALUES)
def test_huber_lies_between_the_extremes_and_its_variance_is_not_negative(values):
    scale = np.maximum(robust_scale(centred(values), fitted=1), 1e-3)
    found, variance = huber(values, scale)
    assert values.min() - 1e-12 <= float(found) <= values.max() + 1e-12
    assert float(variance) >= 0


def test_one_disturbed_run_hardly_moves_huber():
    quiet = np.array([1.00, 1.01, 0.99, 1.02, 0.98, 1.00])
    disturbed = np.append(quiet[:-1], 3.0)
    scale = np.maximum(robust_scale(centred(disturbed), fitted=1), 1e-3)
    assert abs(float(huber(disturbed, scale)[0]) - 1.0) < 0.02
    assert abs(disturbed.mean() - 1.0) > 0.3


def test_without_outliers_huber_is_the_mean_and_its_variance_the_usual_one():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    found, variance = huber(values, np.array([10.0]))
    assert float(found) == pytest.approx(values.mean())
    assert float(variance) == pytest.approx(values.var(ddof=1) / 4)


def test_the_variance_pays_for_values_beyond_the_bend():
    # Four values inside, one far out: sum of psi² is 4 x 0.1² + c² about the location, the share inside 4 / 5.
    values, c = np.array([-0.1, -0.1, 0.1, 0.1, 9.0]), 1.345
    found, variance = huber(values, np.array([1.0]), c)
    psi = np.clip(values - float(found), -c, c)
    assert float(found) == pytest.approx(c / 4, abs=0.01)
    assert float(variance) == pytest.approx((psi**2).sum() / 4 / 0.8**2 / 5)


def test_the_iterations_suffice(monkeypatch):
    values = np.random.default_rng(3).standard_t(2, (2000, 10))
    scale = robust_scale(centred(values), fitted=1)
    short, variance = huber(values, scale)
    monkeypatch.setattr(location, "ITERATIONS", 200)
    long, _ = huber(values, scale)
    assert np.quantile(np.abs(short - long) / np.sqrt(variance), 0.999) < 0.01


def test_vectorised_and_single_agree():
    values = np.random.default_rng(4).normal(0, 1, (5, 7))
    scale = robust_scale(centred(values), fitted=1)
    together, variances = huber(values, scale)
    for index in range(5):
        alone, variance = huber(values[index], scale[index])
        assert float(alone) == pytest.approx(together[index])
        assert float(variance) == pytest.approx(variances[index])
