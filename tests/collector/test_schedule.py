import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.schedule import TickCounter, TickPlan
from enginewatch_db.errors import UsageError

MS = 1_000_000
plans = st.builds(
    TickPlan, start_ns=st.integers(0, 10**15), period_ns=st.integers(5 * MS, 10_000 * MS).filter(lambda n: n % 2 == 0)
)


@given(plan=plans, index=st.integers(0, 10**6), delay_ns=st.integers(-5 * MS, 10**11))
def test_the_due_tick_is_not_long_over_and_none_is_skipped_that_could_still_be_made(plan, index, delay_ns):
    now_ns = plan.deadline_ns(index) + max(0, delay_ns)
    due = plan.due_index(index, now_ns)
    assert due >= index
    assert (plan.deadline_ns(due) - plan.start_ns) % plan.period_ns == 0
    assert plan.deadline_ns(due) >= now_ns - plan.period_ns / 2
    assert due == index or plan.deadline_ns(due - 1) < now_ns - plan.period_ns / 2


@given(plan=plans, costs=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=60))
def test_ticks_that_take_long_or_begin_late_are_missed_and_never_caught_up(plan, costs):
    """``costs`` are the oversleeping before each tick and its duration, in periods."""
    counter, index, now_ns, begun = TickCounter(plan=plan), 0, plan.start_ns, []
    for late, cost in costs:
        now_ns = max(now_ns, plan.deadline_ns(index)) + round(late * plan.period_ns)
        last = plan.due_index(index, now_ns)
        counter.tick(last, now_ns)
        begun.append((last, now_ns))
        now_ns += round(cost * plan.period_ns)
        index = plan.due_index(last + 1, now_ns)
    assert counter.made == len(costs)
    assert counter.expected() == last + 1
    assert all(abs(t - plan.deadline_ns(k)) <= plan.period_ns / 2 for k, t in begun)
    pairs = list(itertools.pairwise(begun))
    assert all(a < b for (a, _), (b, _) in pairs)
    assert all(t2 - t1 >= plan.period_ns / 2 - 1 for (_, t1), (_, t2) in pairs)
    assert counter.gaps == (begun[0][0] > 0) + sum(b - a > 1 for (a, _), (b, _) in pairs)
    assert counter.max_gap_ns == max((b - a for (_, a), (_, b) in pairs), default=0)


def test_a_loop_that_keeps_up_does_not_drift():
    plan = TickPlan.at_rate(123, 10)
    index, now_ns = 0, 0
    for _ in range(10_000):
        now_ns = plan.deadline_ns(index) + 3 * MS
        index = plan.due_index(index + 1, now_ns)
    assert index == 10_000
    assert plan.deadline_ns(index) == 123 + 10_000 * 100 * MS


def test_counter_counts_late_ticks_and_the_rate():
    counter = TickCounter(plan=TickPlan.at_rate(0, 10))
    assert counter.achieved_hz() is None
    for index, late_ms in ((0, 0), (1, 9), (2, 11), (4, 0)):
        counter.tick(index, index * 100 * MS + late_ms * MS)
    assert (counter.made, counter.late, counter.gaps) == (4, 1, 1)
    assert counter.max_gap_ns == 189 * MS
    assert counter.achieved_hz() == pytest.approx(3 / 0.4)
    assert counter.expected() == 5


@pytest.mark.parametrize(("rate_hz", "per_slot"), [(10, 10), (50, 50), (1, 1), (0.5, 1)])
def test_the_slow_tier_has_a_slot_each_second(rate_hz, per_slot):
    plan = TickPlan.at_rate(0, rate_hz)
    assert [plan.slow_slot(index) for index in (0, per_slot - 1, per_slot, 3 * per_slot)] == [0, 0, 1, 3]


@pytest.mark.parametrize("rate_hz", [0, 0.05, 201, -1, float("nan")])
def test_impossible_rates_are_refused(rate_hz):
    with pytest.raises(UsageError, match="Hz is outside"):
        TickPlan.at_rate(0, rate_hz)
