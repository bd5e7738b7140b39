from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from enginewatch_ci.facts import SessionFacts
from enginewatch_ci.refs import as_folder, baseline_of, passed_over, resolve
from enginewatch_db.errors import UsageError


def session(number, session_id, **facts):
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=number)
    return SessionFacts(
        **{"plan_name": "demo", "valid_runs": 3, "runs": 3} | facts | {"session_id": session_id, "started_at": start}
    )


SESSIONS = [
    session(0, "0198aaaa-0000-7000-8000-000000000001", valid_runs=0, git_commit="3f9c1d2aaa"),
    session(1, "0198aaaa-1111-7000-8000-000000000002", label="nightly", git_commit="3f9c1d2aaa"),
    session(2, "0198bbbb-2222-7000-8000-000000000003", label="nightly", git_commit="3f9cffffff"),
    session(3, "0198cccc-3333-7000-8000-000000000004", plan_name="other", label="beef"),
    session(4, "0198dddd-4444-7000-8000-000000000005", label="release-1"),
]


def chosen(ref, **options):
    return [SESSIONS.index(found) for found in resolve(ref, SESSIONS, **options)]


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("latest", [4]),
        ("latest~0", [4]),
        ("latest~2", [2]),
        ("0198aaaa-1111-7000-8000-000000000002", [1]),
        ("0198AAAA11", [1]),
        ("0198b", [2]),
        ("nightly", [1, 2]),
        ("label:nightly", [1, 2]),
        ("beef", [3]),
        ("commit:3f9c1d2", [0, 1]),
        ("commit:3F9CFF", [2]),
    ],
)
def test_refs(ref, expected):
    assert chosen(ref) == expected


def test_the_plan_narrows_the_search():
    assert chosen("latest~1", plan="demo") == [2]
    assert chosen("latest", plan="other") == [3]


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("latest~9", ["only 5 sessions", "release-1"]),
        ("0198aaaa", ["ambiguous", "0198aaaa-0000", "0198aaaa-1111"]),
        ("019", ["neither a session"]),
        ("nightlyy", ["neither a session", "label:nightly"]),
        ("label:releas-1", ["no session has the label", "label:release-1"]),
        ("zzz", ["newest sessions: 0198dddd"]),
        ("commit:3f9c", ["ambiguous", "3f9c1d2aaa", "3f9cffffff"]),
        ("commit:abcd", ["no measured commit", "3f9c1d2aaa"]),
        ("commit:3f", ["no measured commit"]),
    ],
)
def test_a_bad_ref_is_explained(ref, words):
    with pytest.raises(UsageError) as caught:
        resolve(ref, SESSIONS)
    for word in [repr(ref), *words]:
        assert word in str(caught.value)


def test_a_label_that_is_a_session_prefix_is_ambiguous():
    twin = [*SESSIONS, session(5, "beef0000-0000-7000-8000-000000000009")]
    with pytest.raises(UsageError, match="label:beef"):
        resolve("beef", twin)
    assert resolve("label:beef", twin)[0].label == "beef"


def test_an_empty_store_says_so():
    with pytest.raises(UsageError, match="the store has no session"):
        resolve("latest", [])
    with pytest.raises(UsageError, match="plan 'x' has no session"):
        resolve("latest", SESSIONS, plan="x")


def test_the_baseline_is_the_first_session_with_a_valid_run():
    assert baseline_of("demo", SESSIONS, {}) == (SESSIONS[1],)


def test_an_accepted_session_moves_the_baseline():
    assert baseline_of("demo", SESSIONS, {"demo": SESSIONS[4].session_id}) == (SESSIONS[4],)
    assert baseline_of("other", SESSIONS, {"demo": SESSIONS[4].session_id}) == (SESSIONS[3],)


UNFINISHED = session(6, "0198ffff-6666-7000-8000-000000000007", missing_runs=2)
FIRST_UNFINISHED = session(-1, "01980000-0000-7000-8000-000000000000", missing_runs=12)


def test_what_was_not_finished_is_not_chosen_unless_named():
    known = [FIRST_UNFINISHED, *SESSIONS, UNFINISHED]
    assert resolve("latest", known) == (SESSIONS[4],)
    assert resolve("latest~1", known) == (SESSIONS[3],)
    assert resolve("0198ffff", known) == (UNFINISHED,)
    assert baseline_of("demo", known, {}) == (SESSIONS[1],)
    assert baseline_of("demo", [FIRST_UNFINISHED], {}) is None
    assert baseline_of("demo", known, {"demo": UNFINISHED.session_id}) == (UNFINISHED,)
    assert passed_over("latest", SESSIONS[4], known) == [UNFINISHED]
    assert passed_over("latest", SESSIONS[4], [*SESSIONS]) == []
    assert passed_over("baseline", SESSIONS[1], known) == [FIRST_UNFINISHED]
    assert passed_over("baseline", None, known) == [FIRST_UNFINISHED, UNFINISHED]


def test_where_nothing_is_finished_latest_says_so():
    with pytest.raises(UsageError, match="none of 1 session finished; the others are passed over") as caught:
        resolve("latest", [UNFINISHED])
    assert "0198ffff" in str(caught.value)


def test_a_plan_without_a_valid_run_has_no_baseline():
    assert baseline_of("demo", SESSIONS[:1], {}) is None
    assert baseline_of("unknown", SESSIONS, {}) is None


def test_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").mkdir()
    (tmp_path / "spool" / "run1").mkdir(parents=True)
    (tmp_path / "spool" / "run1" / "run.json").write_text("{}")
    assert as_folder("spool") is not None
    assert as_folder("./plain") is not None
    assert as_folder("plain") is None  # an empty folder does not shadow a label
    assert as_folder("nightly") is None
    with pytest.raises(UsageError, match=r"no folder './absent'"):
        as_folder("./absent")
