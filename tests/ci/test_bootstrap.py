from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_ci.stats.bootstrap import Bootstrapped, Student, seed_of, studentised_null


def null(a, b, seeds=(1, 2), resamples=1999):
    return studentised_null(np.asarray(a), np.asarray(b), floors=(0.001, 0.001), seeds=seeds, resamples=resamples)


def test_students_critical_value_and_p_agree():
    law = Student(df=7)
    assert law.two_sided(law.critical(0.95)) == pytest.approx(0.05)
    assert law.critical(0.95) == pytest.approx(2.364624, abs=1e-5)


def test_resampled_t_of_many_normal_runs_is_students():
    rng = np.random.default_rng(8)
    ordered = null(rng.normal(0, 0.01, 40), rng.normal(0, 0.01, 40))
    assert np.quantile(ordered, 0.95) == pytest.approx(1.99, abs=0.12)


def test_the_same_seeds_give_the_same_resamples():
    a, b = [0.0, 0.01, 0.03, -0.02], [0.1, 0.11, 0.08]
    assert (null(a, b) == null(a, b)).all()
    assert (null(a, b) != null(a, b, seeds=(1, 3))).any()


def test_swapping_the_arms_gives_the_same_absolute_t():
    a, b = [0.0, 0.01, 0.03, -0.02], [0.1, 0.11, 0.08]
    assert null(a, b, (1, 2)) == pytest.approx(null(b, a, (2, 1)))


def test_three_runs_a_side_do_not_explode():
    rng = np.random.default_rng(9)
    worst = max(null(*rng.normal(0, 0.01, (2, 3)), resamples=999)[-50] for _ in range(50))
    assert worst < 12


@given(st.lists(st.floats(0, 30), min_size=5, max_size=50), st.floats(0, 40), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_beyond_the_critical_value_p_is_small_enough(values, t, confidence):
    law = Bootstrapped(ordered=np.sort(np.array(values)), student=Student(df=4))
    if t > law.critical(confidence) and (1 - confidence) * (len(values) + 1) >= 1:
        assert law.two_sided(t) <= 1 - confidence + 1e-9


def test_the_bootstrap_never_narrows_student():
    law = Bootstrapped(ordered=np.full(1999, 1e-6), student=Student(df=4))
    assert law.critical(0.95) == Student(df=4).critical(0.95)
    assert law.two_sided(2.0) == Student(df=4).two_sided(2.0)


def test_p_is_never_zero():
    assert Bootstrapped(ordered=np.arange(1999.0) / 1e6, student=Student(df=60)).two_sided(80.0) == 1 / 2000


def test_seeds_depend_on_every_part():
    assert seed_of("a", "b") == seed_of("a", "b")
    assert len({seed_of("a", "b"), seed_of("b", "a"), seed_of("ab"), seed_of("a")}) == 4
