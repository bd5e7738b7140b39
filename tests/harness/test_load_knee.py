"""The knee of noisy points from servers whose capacity is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_harness.load.knee import Knee, NoKnee, Point, find_knee

LADDER = [1, 2, 4, 8, 16, 32, 64, 128]


def slots(load: float, knee: float) -> float:
    """So many slots: linear, then flat."""
    return 40 * min(load, knee)


def overloaded(load: float, knee: float) -> float:
    """Linear, then falling."""
    return 40 * min(load, knee) * min(1.0, (knee / load) ** 0.25)


def batched(load: float, knee: float) -> float:
    """A step that takes longer for each sequence: the asymptotes cross at the knee."""
    return 40 * load / (1 + load / knee)


def shared(load: float, knee: float) -> float:
    """Streams share what there is even before the knee."""
    return 40 * min(load, knee) ** 0.5


def points(server, knee: float, levels, repeats: int = 3, sd: float = 0.0, seed: int = 0, spoilt: float = 0.0):
    rng = np.random.default_rng(seed)
    found = []
    for level in levels:
        for _ in range(repeats):
            noise = rng.normal(0, sd) - (0.3 if rng.random() < spoilt else 0.0)
            found.append(Point(load=level, throughput=server(level, knee) * math.exp(noise)))
    return found


@pytest.mark.parametrize("server", [slots, overloaded, batched, shared])
@pytest.mark.parametrize("knee", [6.0, 24.0])
def test_without_noise_the_knee_is_where_the_asymptotes_cross(server, knee):
    found = find_knee(points(server, knee, [*LADDER, 3, 6, 12, 24, 48]))
    assert isinstance(found, Knee)
    assert found.load == pytest.approx(knee, rel=0.05)
    assert found.ci_low <= found.load <= found.ci_high
    assert found.slope_before == pytest.approx(0.5 if server is shared else 1.0, abs=0.1)


@pytest.mark.parametrize("server", [slots, overloaded])
def test_noise_and_disturbed_runs_leave_the_knee_within_ten_percent(server):
    misses, covered, count = 0, 0, 60
    for seed in range(count):
        found = find_knee(points(server, 24, [*LADDER, 12, 17, 24, 34, 48], sd=0.03, seed=seed, spoilt=0.05))
        assert isinstance(found, Knee)
        misses += abs(found.load / 24 - 1) > 0.10
        covered += found.ci_low <= 24 <= found.ci_high
    assert misses <= 1
    assert covered >= 54


def test_one_wild_point_moves_nothing():
    calm = points(slots, 24, LADDER, sd=0.01, seed=1)
    wild = [*calm, Point(load=64, throughput=slots(64, 24) * 0.2)]
    found = find_knee(wild)
    assert isinstance(found, Knee)
    assert found.load == pytest.approx(24, rel=0.08)


def test_throughput_at_the_knee_is_what_the_server_can_do():
    found = find_knee(points(slots, 24, LADDER))
    assert isinstance(found, Knee)
    assert found.throughput == pytest.approx(40 * 24, rel=0.05)
    assert found.slope_after == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("given_points", "code"),
    [
        (points(slots, 24, [1, 8, 64]), "too_few_levels"),
        (points(slots, 1000, LADDER, sd=0.02), "still_growing"),
        (points(slots, 120, LADDER, sd=0.02), "still_growing"),
        (points(slots, 0.5, LADDER, sd=0.02), "saturated_at_once"),
        (points(batched, 1, LADDER), "saturated_at_once"),  # it bends, and at the lowest load
        (points(lambda load, _: 40 * load**0.22, 0, LADDER, sd=0.02), "no_bend"),
    ],
)
def test_where_there_is_none_the_reason_is_given(given_points, code):
    found = find_knee(given_points)
    assert isinstance(found, NoKnee)
    assert found.code == code
    assert found.why


def test_numbers_that_are_none_are_refused():
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive"):
            find_knee([Point(load=1, throughput=bad)])


@settings(max_examples=10, deadline=None)
@given(load_scale=st.floats(0.1, 100), value_scale=st.floats(1e-3, 1e6), knee=st.floats(5, 40))
def test_units_do_not_matter(load_scale, value_scale, knee):
    base = points(slots, knee, LADDER, sd=0.02, seed=3)
    scaled = [Point(load=p.load * load_scale, throughput=p.throughput * value_scale) for p in base]
    one, other = find_knee(base), find_knee(scaled)
    assert isinstance(one, Knee)
    assert isinstance(other, Knee)
    assert other.load == pytest.approx(one.load * load_scale, rel=1e-6)
    assert other.throughput == pytest.approx(one.throughput * value_scale, rel=1e-6)


def test_the_same_points_give_the_same_answer():
    given_points = points(slots, 24, LADDER, sd=0.03)
    assert find_knee(given_points) == find_knee(given_points)
