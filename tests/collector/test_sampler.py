import math

import pytest

from enginewatch_collector.backends.base import Reading
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.sampler import Sampler

MS = 1_000_000


class Scripted:
    """A backend whose reads take as long as the script says, on a clock that it moves itself."""

    name = "scripted"

    def __init__(self, fast_ms=(), values=None):
        self.now_ns = 0
        self.fast_ms = list(fast_ms)
        self.values = values or {"power_mw": 1}
        self.slow_at_ms = []

    def read_fast(self):
        before = self.now_ns
        self.now_ns += (self.fast_ms.pop(0) if self.fast_ms else 1) * MS
        return [
            Reading(source="s", device="gpu0", t_before_ns=before, t_after_ns=self.now_ns, values=dict(self.values))
        ]

    def read_slow(self):
        self.slow_at_ms.append(self.now_ns // MS)
        return []


def run(backend, ticks, on_first=None, oversleep_ms=()):
    log, readings = QualityLog(), []
    sampler = Sampler([backend], 10, log, readings.append, clock=lambda: backend.now_ns)
    deadlines, oversleep = [], iter(oversleep_ms)

    def wait(deadline_ns):
        deadlines.append(deadline_ns // MS)
        backend.now_ns = max(backend.now_ns, deadline_ns) + next(oversleep, 0) * MS
        return len(deadlines) > ticks

    sampler.run(wait, on_first=on_first)
    return sampler.ticks, readings, log, deadlines


def test_ticks_lie_on_the_grid_and_a_last_read_follows():
    ticks, readings, _, deadlines = run(Scripted(), 5)
    assert deadlines == [0, 100, 200, 300, 400, 500]
    assert ticks.made == 5
    assert [reading.t_ns for reading in readings] == [(100 * k * MS) + MS // 2 for k in range(6)]


def test_a_long_read_costs_ticks_and_they_are_not_made_up_for():
    ticks, _, _, deadlines = run(Scripted(fast_ms=[1, 270, 1, 1]), 4)
    assert deadlines == [0, 100, 400, 500, 600]
    assert (ticks.made, ticks.gaps, ticks.expected()) == (4, 1, 6)


def test_a_wait_that_ends_late_costs_ticks_too():
    ticks, readings, _, deadlines = run(Scripted(), 4, oversleep_ms=[0, 95, 0, 0])
    # the tick of 100 ms is made at 195 ms as that of 200 ms
    assert deadlines == [0, 100, 300, 400, 500]
    assert (ticks.made, ticks.expected(), ticks.gaps, ticks.max_gap_ns) == (4, 5, 1, 195 * MS)
    assert [reading.t_before_ns // MS for reading in readings] == [0, 195, 300, 400, 500]


def test_the_slow_tier_runs_once_a_second_even_when_its_tick_was_missed():
    backend = Scripted(fast_ms=[1] * 9 + [250] + [1] * 20)
    run(backend, 20)
    # tick 10 at 1000 ms was missed: the slow read comes with the next one
    assert backend.slow_at_ms == [1, 1201, 2001, 2201]


def test_nan_is_left_out_and_counted():
    backend = Scripted(values={"sm_active_pct": math.nan, "fp16_active_pct": math.inf, "power_mw": 5})
    _, readings, log, _ = run(backend, 1)
    assert readings[0].values == {"power_mw": 5}
    assert {name: error["codes"] for name, error in log.errors_json().items()} == {
        "sm_active_pct": {"nan": 2},
        "fp16_active_pct": {"nan": 2},
    }


def test_a_reading_without_values_makes_no_row():
    _, readings, _, _ = run(Scripted(values={"sm_active_pct": math.nan}), 1)
    assert readings == []


def test_ready_is_said_once_after_the_first_tick():
    said = []
    run(Scripted(), 3, on_first=lambda: said.append(True))
    assert said == [True]


def test_read_times_are_counted():
    _, _, log, _ = run(Scripted(fast_ms=[4] * 10), 3)
    assert log.read_times.quantile_us(0.5) == pytest.approx(4000, rel=0.03)
