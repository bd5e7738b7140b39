"""The Overview's tiles and headline: the worst comes first, and nothing is green without data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_dashboards.reasons import Cause
from enginewatch_dashboards.theme import NO_DATA, NOT_JUDGED, VERDICTS
from enginewatch_dashboards.tiles import counts, current_sessions, headline, make_tiles
from enginewatch_db.model import SEVERITY, Verdict


def case(key="encoder/onnxruntime/fp32/b8", *, model="encoder", device="CPU", **changes):
    row = {
        "session_id": "s2", "case_key": key, "model": model, "device": device, "series_id": "x", "n_runs": 3, "n_ok": 3,
        "n_valid": 3, "n_failed": 0, "n_not_available": 0, "failure_message": None, "failure_remedy": None,
        "failed_run": None, "reason_codes": [], "sessions_with_data": 2,
    }  # fmt: skip
    return row | changes


def verdict(word, key="encoder/onnxruntime/fp32/b8", *, rel=0.0, metric="latency_p50_ms"):
    return {
        "session_id": "s2", "case_key": key, "verdict": word, "metric": metric, "effect_rel": rel,
        "effect_ci_low": rel - 0.01, "effect_ci_high": rel + 0.01, "why": f"why {word}", "baseline_label": "night-1",
    }  # fmt: skip


def test_a_tile_shows_the_worst_verdict_of_its_cases():
    cases = [case("encoder/a"), case("encoder/b")]
    tiles = make_tiles(cases, [verdict("unchanged", "encoder/a"), verdict("regressed", "encoder/b", rel=0.2)])
    assert [(tile.look.word, tile.case_key, tile.n_cases) for tile in tiles] == [("regressed", "encoder/b", 2)]


def test_of_two_regressions_the_larger_one_is_shown():
    rows = [verdict("regressed", "encoder/a", rel=0.06), verdict("regressed", "encoder/a", rel=-0.3, metric="p99")]
    (tile,) = make_tiles([case("encoder/a")], rows)
    assert tile.metric == "p99"


def test_tiles_are_ordered_worst_first():
    words = [*SEVERITY]
    cases = [case(f"m{i}/x", model=f"m{i}") for i in range(len(words))]
    rows = [verdict(word.value, f"m{i}/x") for i, word in enumerate(reversed(words))]
    assert [tile.look for tile in make_tiles(cases, rows)] == [VERDICTS[word] for word in words]


def test_one_session_is_not_enough_data():
    (tile,) = make_tiles([case(sessions_with_data=1)], [])
    assert tile.look is NO_DATA
    assert tile.sentence == "not enough data yet: 1 session; run again to compare"
    found = headline([case(sessions_with_data=1)], [])
    assert found.look is NO_DATA
    assert found.sentence == "Not enough data yet: 1 session; run again to compare"


def test_two_sessions_without_a_verdict_ask_for_one():
    (tile,) = make_tiles([case()], [])
    assert tile.look is NOT_JUDGED
    assert "enginewatch judge" in tile.sentence
    assert headline([case()], []).look is NOT_JUDGED


def test_a_failed_case_is_failed_even_where_nobody_judged_it():
    failed = case(n_valid=0, n_ok=0, n_failed=3, failure_message="it broke")
    (tile,) = make_tiles([failed], [])
    assert (tile.look, tile.sentence, tile.series_id) == (VERDICTS[Verdict.FAILED], "it broke", None)
    assert headline([failed], []).sentence == "1 failed"


def test_an_absent_backend_makes_no_tile():
    assert make_tiles([case(n_valid=0, n_ok=0, n_not_available=3)], []) == []


def test_runs_that_do_not_count_say_why():
    (tile,) = make_tiles([case(n_valid=0, reason_codes=["foreign_process"])], [])
    assert tile.look is NO_DATA
    assert tile.sentence == "no run counts (foreign_process): see the run's checklist"


def test_only_what_rejects_is_a_cause_on_a_tile():
    codes = ["imported", "telemetry_absent", "too_few_samples"]
    (tile,) = make_tiles([case(n_valid=0, reason_codes=codes)], [])
    assert tile.sentence == "no run counts (too_few_samples): see the run's checklist"


def test_the_headline_names_the_largest_regression():
    rows = [verdict("regressed", rel=0.118), verdict("unchanged", metric="latency_p99_ms")]
    found = headline([case()], rows)
    assert found.sentence == "1 regressed"
    assert found.detail == (
        "Largest regression: encoder/onnxruntime/fp32/b8, latency p50 +11.8 % [+10.8, +12.8] against night-1."
    )


def test_more_repeats_are_only_advised_where_nothing_spoils_the_runs():
    rows = [verdict("inconclusive")]
    assert headline([case()], rows).detail == "1 inconclusive. More repeats would settle what is inconclusive."
    busy = Cause(code="host_busy", n=50, total=60)
    detail = headline([case()], rows, [busy]).detail
    assert "host_busy marks 50 of 60 runs" in detail
    assert busy.remedy in detail
    assert "More repeats" not in detail
    # A busy host makes no case incomparable; runs that are rejected do.
    missing = [verdict("not_comparable")]
    assert "host_busy" not in headline([case()], missing, [busy]).detail
    assert (
        "client_bound rejects 9 of 60 runs"
        in headline([case()], missing, [Cause(code="client_bound", n=9, total=60)]).detail
    )


@pytest.mark.parametrize(
    ("words", "look", "sentence"),
    [
        (["unchanged", "improved"], Verdict.UNCHANGED, "Nothing is worse than the baseline"),
        (["unchanged", "inconclusive"], Verdict.INCONCLUSIVE, "Nothing is known to be worse, but 1 comparison is open"),
        (["not_comparable"], Verdict.INCONCLUSIVE, "Nothing is known to be worse, but 1 comparison is open"),
        (["failed", "regressed"], Verdict.FAILED, "1 failed and 1 regressed"),
    ],
)
def test_headlines(words, look, sentence):
    cases = [case(f"m/{i}") for i in range(len(words))]
    found = headline(cases, [verdict(word, f"m/{i}") for i, word in enumerate(words)])
    assert (found.look, found.sentence) == (VERDICTS[look], sentence)


def test_what_was_not_judged_keeps_the_headline_from_green():
    found = headline([case("m/0"), case("m/1", sessions_with_data=1)], [verdict("unchanged", "m/0")])
    assert found.sentence == "Nothing that was compared is worse; 1 case has no verdict yet"
    assert found.look is NO_DATA


@given(st.lists(st.sampled_from([*Verdict])))
def test_counts_cover_all_six_and_add_up(words):
    number = counts([verdict(word.value) for word in words])
    assert list(number) == list(SEVERITY)
    assert sum(number.values()) == len(words)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6),
    st.lists(st.sampled_from([*Verdict]), max_size=6),
)
def test_a_headline_is_only_green_when_something_was_judged_fine(shape, words):
    cases = [
        case(f"m/{i}", n_ok=valid, n_valid=valid, n_failed=failed, n_runs=valid + failed + absent,
             n_not_available=absent, sessions_with_data=min(valid, 1))
        for i, (valid, failed, absent) in enumerate(shape)
    ]  # fmt: skip
    rows = [verdict(word.value, f"m/{i}") for i, word in enumerate(words)]
    if headline(cases, rows).look.badge == "green":
        assert rows
        assert {row["verdict"] for row in rows} <= {"unchanged", "improved"}
        judged = {row["case_key"] for row in rows}
        assert all(row["case_key"] in judged for row in cases if row["n_ok"])


def test_the_newest_session_of_each_plan_is_current():
    sessions = [
        {"session_id": "c3", "plan_name": "b", "label": None},
        {"session_id": "b2", "plan_name": "a", "label": "night-2"},
        {"session_id": "a1", "plan_name": "a", "label": None},
    ]

    def ids(plan=None, session=None):
        return [row["session_id"] for row in current_sessions(sessions, plan=plan, session=session)]

    assert ids() == ["c3", "b2"]
    assert ids(plan="a") == ["b2"]
    assert ids(session="a1") == ["a1"]
    assert ids(session="night-2") == ["b2"]
    assert ids(session="zz") == []
