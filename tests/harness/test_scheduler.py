"""Due times, restarts, one session at a time. The clock is the test's."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import PlanError, StoreLockedError
from enginewatch_harness.commands.schedule import _rule
from enginewatch_harness.due import first_due, next_due, with_jitter
from enginewatch_harness.plan_file import ScheduleTable, parse_plan
from enginewatch_harness.scheduler import Scheduler, Served, read_state, write_state

PLAN = b"""
name = "nightly"
[[model]]
name = "m"
generate = "convnet_tiny"
[[workload]]
name = "w"
model = "m"
backends = ["onnxruntime"]
precisions = ["fp32"]
batches = [1]
"""
NOON = datetime(2026, 11, 20, 12, 0).astimezone()
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda moment: moment.astimezone())


@given(moments, st.lists(st.times().map(lambda time: f"{time:%H:%M}"), min_size=1, max_size=4, unique=True))
def test_a_daily_rule_is_due_within_a_day_at_a_named_time(moment, times):
    due = next_due(ScheduleTable(at=times), moment)
    assert moment < due <= moment + timedelta(hours=25)
    assert f"{due:%H:%M}" in times


@given(moments, st.integers(1, 10_000))
def test_an_interval_counts_from_the_last_due_time(moment, minutes):
    assert next_due(ScheduleTable(every_minutes=minutes), moment) - moment == timedelta(minutes=minutes)


@given(moments, st.integers(0, 3600), st.integers(0, 99))
def test_jitter_is_bounded_and_survives_a_restart(moment, jitter_s, seed):
    rule = ScheduleTable(every_minutes=5, jitter_s=jitter_s)
    at = with_jitter(rule, moment, seed)
    assert timedelta() <= at - moment <= timedelta(seconds=jitter_s)
    assert at == with_jitter(rule, moment, seed)


def test_jitter_differs_from_day_to_day():
    rule = ScheduleTable(at=["02:00"], jitter_s=600)
    assert len({with_jitter(rule, NOON + timedelta(days=day), 1) - NOON - timedelta(days=day) for day in range(9)}) == 9


@pytest.mark.parametrize(
    ("last", "catch_up", "expected"),
    [
        (None, True, NOON),
        (NOON - timedelta(minutes=10), True, NOON + timedelta(minutes=20)),
        (NOON - timedelta(minutes=95), True, NOON),
        (NOON - timedelta(minutes=95), False, NOON + timedelta(minutes=25)),
    ],
)
def test_after_a_start(last, catch_up, expected):
    assert first_due(ScheduleTable(every_minutes=30, catch_up=catch_up), last, NOON) == expected


@pytest.mark.parametrize("table", [{}, {"at": ["25:00"]}, {"at": ["2:00"]}, {"at": ["02:00"], "every_minutes": 5}])
def test_a_rule_that_cannot_be_obeyed_is_refused(table):
    with pytest.raises(ValueError, match=r"HH:MM|not both"):
        ScheduleTable(**table)


class Bench:
    """A scheduler on a clock that the test moves."""

    def __init__(self, workspace, rule: ScheduleTable, *, takes: timedelta = timedelta()) -> None:
        self.time = NOON
        self.ran: list[datetime] = []
        self.said: list[str] = []
        self.takes = takes
        self.scheduler = Scheduler(
            plan=parse_plan(PLAN, "plan"),
            rule=rule,
            plan_path=workspace.root / "plan.toml",
            workspace=workspace,
            say=self.said.append,
            start_session=self.session,
            now=lambda: self.time,
        )

    def session(self, *_: object) -> int:
        self.ran.append(self.time)
        self.time += self.takes
        return 0

    def live(self, minutes: int) -> None:
        for _ in range(minutes):
            self.time += timedelta(minutes=1)
            self.scheduler.tick()


def test_it_runs_at_its_times_and_says_what_comes_next(workspace):
    bench = Bench(workspace, ScheduleTable(every_minutes=30))
    bench.scheduler.start()
    bench.live(91)
    assert len(bench.ran) == 4
    assert bench.said[-1].startswith("next session of nightly")


def test_sessions_never_overlap_and_a_long_one_is_caught_up_once(workspace):
    bench = Bench(workspace, ScheduleTable(every_minutes=10), takes=timedelta(minutes=35))
    bench.scheduler.start()
    bench.live(3)
    gaps = [later - earlier for earlier, later in zip(bench.ran, bench.ran[1:], strict=False)]
    assert all(gap >= timedelta(minutes=35) for gap in gaps)


def test_a_restart_neither_forgets_nor_repeats(workspace):
    rule = ScheduleTable(every_minutes=60)
    first = Bench(workspace, rule)
    first.scheduler.start()
    first.live(1)
    assert len(first.ran) == 1

    second = Bench(workspace, rule)
    second.time = first.time + timedelta(minutes=5)
    second.scheduler.start()
    second.live(10)
    assert second.ran == []
    second.live(60)
    assert len(second.ran) == 1


def test_a_session_that_did_not_end_is_told(workspace):
    bench = Bench(workspace, ScheduleTable(every_minutes=60))
    write_state(bench.scheduler.state_path, {"nightly": Served(due=NOON.isoformat(), exit_code=None)})
    bench.scheduler.start()
    assert "did not end" in bench.said[0]


def test_two_plans_keep_their_own_entries(workspace):
    bench = Bench(workspace, ScheduleTable(every_minutes=60))
    bench.scheduler.start()
    write_state(bench.scheduler.state_path, {"other": Served(due=NOON.isoformat(), exit_code=0)})
    bench.live(1)
    assert set(read_state(bench.scheduler.state_path)) == {"other", "nightly"}


def test_a_second_scheduler_of_the_same_plan_is_refused(workspace):
    bench = Bench(workspace, ScheduleTable(every_minutes=60))
    with (
        workspace.lock("schedule-nightly", wait_s=0, busy="held"),
        pytest.raises(StoreLockedError, match="another scheduler serves plan 'nightly'"),
    ):
        bench.scheduler.run_forever(1)


def test_options_change_the_plans_rule_and_keep_the_rest():
    planned = ScheduleTable(at=["02:00"], jitter_s=60, catch_up=False)
    changed = _rule(planned, None, (), 5, no_catch_up=False)
    assert (changed.at, changed.jitter_s, changed.catch_up) == (["02:00"], 5, False)
    replaced = _rule(planned, 30, (), None, no_catch_up=False)
    assert (replaced.every_minutes, replaced.at, replaced.jitter_s) == (30, [], 60)
    assert _rule(None, None, (), None, no_catch_up=True) is None
    with pytest.raises(PlanError, match="HH:MM"):
        _rule(None, None, ("25:00",), None, no_catch_up=False)


def test_an_unreadable_state_counts_as_none(tmp_path):
    path = tmp_path / "schedule.json"
    assert read_state(path) == {}
    for content in ("", "[]", '{"x": 1}', '{"x": {"nope": 1}}'):
        path.write_text(content)
        assert read_state(path) == {}


def test_a_session_in_a_child_stores_its_runs(workspace, tiny_plan):
    from enginewatch_db.connect import Reader
    from enginewatch_harness.scheduler import run_in_child

    assert run_in_child(tiny_plan(repeats=1, batches="1"), workspace) == 0
    with Reader.open(workspace) as reader:
        assert reader.console("SELECT * FROM runs").num_rows == 1
