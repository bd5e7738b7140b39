"""From runs to the sessions and changes of the Trend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards.trends import environment_changes, find_baseline, locate, locations, session_points
from enginewatch_db.model import Verdict

START = datetime(2026, 11, 1, tzinfo=UTC)


def run(number, value, *, repeat=0, valid=True, env="e1", status="ok", plan="p"):
    return {
        "run_id": f"r{number}-{repeat}", "session_id": f"s{number}", "label": f"night-{number}", "plan_name": plan,
        "session_started_at": START + timedelta(days=number), "git_commit": "abc", "hostname": "h", "env_id": env,
        "value": value, "ci_low": None, "ci_high": None, "valid": valid, "status": status, "reason_codes": [],
    }  # fmt: skip


POSITIVE = st.floats(0.01, 1e6)


@given(st.lists(POSITIVE, min_size=1, max_size=9))
def test_the_location_lies_among_the_runs_and_its_interval_around_it(values):
    value, low, high = locate([run(1, value) for value in values])
    assert min(values) * (1 - 1e-9) <= value <= max(values) * (1 + 1e-9)
    if low is not None:
        assert low <= value <= high
    if len(values) > 1:
        assert low is not None


def test_one_run_takes_its_own_interval():
    single = run(1, 10.0) | {"ci_low": 9.0, "ci_high": 11.0}
    _, low, high = locate([single])
    assert low == pytest.approx(9.05, abs=0.1)
    assert high == pytest.approx(11.05, abs=0.1)
    assert locate([run(1, 10.0)]) == (pytest.approx(10.0), None, None)


def test_values_without_a_logarithm_have_a_median_and_no_interval():
    assert locate([run(1, 0.0), run(1, 0.0), run(1, 3.0)]) == (0.0, None, None)


def test_only_valid_runs_are_located():
    points = session_points([run(1, 5.0), run(1, 50.0, repeat=1, valid=False), run(1, 5.0, repeat=2)], [], [])
    assert points[0].value == pytest.approx(5.0)
    assert (points[0].n_valid, points[0].n_runs) == (2, 3)


def test_a_session_whose_runs_failed_keeps_its_place():
    points = session_points([run(1, 5.0), run(2, None, valid=False, status="failed"), run(3, 6.0)], [], [])
    assert [point.value is None for point in points] == [False, True, False]
    assert [point.place for point in points] == [0, 1, 2]
    assert points[1].run_id == "r2-0"


def test_the_middle_run_stands_for_its_session():
    runs = [run(1, value, repeat=i) for i, value in enumerate((4.0, 5.0, 9.0))]
    assert session_points(runs, [], [])[0].run_id == "r1-1"


def test_verdicts_belong_to_their_session():
    verdicts = [{"session_id": "s2", "baseline_session": "s1", "verdict": "regressed", "why": "slower"}]
    points = session_points([run(1, 5.0), run(2, 6.0)], verdicts, [])
    assert [point.verdict for point in points] == [None, Verdict.REGRESSED]
    assert points[1].why == "slower"
    assert [point.is_baseline for point in points] == [True, False]


def test_an_accepted_session_is_the_baseline_whatever_was_compared():
    runs = [run(1, 5.0), run(2, 6.0), run(3, 6.0)]
    verdicts = [{"session_id": "s3", "baseline_session": "s1"}]
    accepted = [{"plan_name": "other", "session_id": "s9"}, {"plan_name": "p", "session_id": "s2"}]
    assert find_baseline(runs, verdicts, accepted) == "s2"
    assert find_baseline(runs, verdicts, accepted[:1]) == "s1"
    assert find_baseline(runs, [], []) is None
    assert find_baseline([], verdicts, accepted) is None


def test_environment_changes_name_what_changed():
    facets = [
        {"env_id": "e1", "facets": '{"driver": "575", "os": "Linux"}'},
        {"env_id": "e2", "facets": '{"driver": "580", "os": "Linux", "image": "a"}'},
    ]
    runs = [run(1, 1.0), run(2, 1.0), run(3, 1.0, env="e2"), run(3, 1.0, repeat=1, env="e1"), run(4, 1.0, env="e2")]
    (change,) = environment_changes(runs, facets)
    assert (change.place, change.title) == (2, "driver, image")
    assert change.sentence == "driver: 575 → 580; image: absent → a"


def test_locations_keep_the_order_of_sessions():
    assert locations([run(2, 6.0), run(2, 6.0), run(1, 5.0)]) == [pytest.approx(6.0), pytest.approx(5.0)]
