import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.backends.synthetic import SyntheticBackend, energy_mj, load_share, values_at
from enginewatch_collector.columns import COLUMNS
from enginewatch_collector.quality import QualityLog

times = st.floats(0, 1e5)
seeds = st.integers(0, 1000)


@given(elapsed_s=times, seed=seeds, gpu=st.integers(0, 7))
def test_values_are_a_function_of_time_and_lie_in_their_ranges(elapsed_s, seed, gpu):
    fast, slow = values_at(elapsed_s, seed=seed, gpu=gpu)
    assert (fast, slow) == values_at(elapsed_s, seed=seed, gpu=gpu)
    assert set(fast) | set(slow) <= set(COLUMNS)
    assert all(0 <= value <= 100 for name, value in fast.items() if name.endswith("_pct"))


@given(start_s=times, span_s=st.floats(0.5, 60), seed=seeds)
def test_energy_is_the_integral_of_power(start_s, span_s, seed):
    grid = np.linspace(start_s, start_s + span_s, 2001)
    power = [80_000 + 600_000 * load_share(t, seed=seed, gpu=0) for t in grid]
    grown = energy_mj(grid[-1], seed=seed, gpu=0) - energy_mj(grid[0], seed=seed, gpu=0)
    assert grown == pytest.approx(np.trapezoid(power, grid), rel=1e-4, abs=2)


def test_seeds_and_devices_differ():
    shares = {load_share(3.0, seed=seed, gpu=gpu) for seed in range(20) for gpu in range(8)}
    assert len(shares) == 160


def test_two_backends_with_one_seed_agree():
    readings = []
    for _ in range(2):
        now = iter([5_000, 5_000 + 1_500_000_000])
        backend = SyntheticBackend(seed=3, clock=lambda now=now: next(now))
        backend.open(QualityLog())
        readings.append(backend.read_fast())
    assert readings[0] == readings[1]
