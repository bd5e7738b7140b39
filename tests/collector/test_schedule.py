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
def test_the_next_tick_is_on_the_grid_after_the_last_one_and_not_long_over(plan, index, delay_ns):
    now_ns = plan.deadline_ns(index) + max(0, delay_ns)
    following = plan.next_index(index, now_ns)
    assert following > index
    assert (plan.deadline_ns(following) - plan.start_ns) % plan.period_ns == 0
    assert plan.deadline_ns(following) >= now_ns - plan.period_ns / 2
    # and no tick is skipped that could still be made
    assert following == index + 1 or plan.deadline_ns(following - 1) < now_ns - plan.period_ns / 2


@given(plan=plans, costs=st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_ticks_that_take_long_are_missed_and_never_caught_up(plan, costs):
    """``costs`` are the durations of the ticks in periods."""
    counter, index, now_ns, begun = TickCounter(plan=plan), 0, plan.start_ns, []
    for cost in costs:
        now_ns = max(now_ns, plan.deadline_ns(index))
        counter.tick(index, now_ns)
        begun.append((index, now_ns))
        now_ns += round(cost * plan.period_ns)
        last, index = index, plan.next_index(index, now_ns)
    assert counter.made == len(costs)
    assert counter.expected(plan.deadline_ns(last)) == last + 1
    assert len({number for number, _ in begun}) == len(begun)
    assert all(abs(t - plan.deadline_ns(k)) <= plan.period_ns / 2 for k, t in begun)
    assert counter.gaps == sum(b - a > 1 for (a, _), (b, _) in itertools.pairwise(begun))
    assert counter.max_gap_ns == max((b - a for (_, a), (_, b) in itertools.pairwise(begun)), default=0)


def test_a_loop_that_keeps_up_does_not_drift():
    plan = TickPlan.at_rate(123, 10)
    index, now_ns = 0, 0
    for _ in range(10_000):
        now_ns = plan.deadline_ns(index) + 3 * MS
        index = plan.next_index(index, now_ns)
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
    assert counter.expected(400 * MS) == 5


@pytest.mark.parametrize(("rate_hz", "per_slot"), [(10, 10), (50, 50), (1, 1), (0.5, 1)])
def test_the_slow_tier_has_a_slot_each_second(rate_hz, per_slot):
    plan = TickPlan.at_rate(0, rate_hz)
    assert [plan.slow_slot(index) for index in (0, per_slot - 1, per_slot, 3 * per_slot)] == [0, 0, 1, 3]


@pytest.mark.parametrize("rate_hz", [0, 0.05, 201, -1, float("nan")])
def test_impossible_rates_are_refused(rate_hz):
    with pytest.raises(UsageError, match="Hz is outside"):
        TickPlan.at_rate(0, rate_hz)
