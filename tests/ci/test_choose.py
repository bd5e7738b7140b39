from __future__ import annotations

from dataclasses import replace

import pytest

from enginewatch_ci.choose import choose_session, load_pair
from enginewatch_ci.judge import judge
from enginewatch_ci.load import read_sessions
from enginewatch_db import judgements
from enginewatch_db.connect import Reader
from enginewatch_db.errors import UsageError
from enginewatch_db.model import RunStatus


@pytest.fixture
def planned(lab, cases):
    """Return a session that says which cases it set out to do, as `enginewatch run` does, without its last runs."""

    def make(*, without=0, **facts):
        records = lab.session(run_sd=0.004, **facts)
        records = [replace(record, session=record.session | {"cases": list(cases)}) for record in records]
        return records[: len(records) - without]

    return make


def pair(store, candidate="latest", baseline="baseline"):
    return load_pair(store.root, candidate, baseline, metrics=("latency_p50_ms",))


def ids(found):
    return tuple(arm and arm.newest.session_id for arm in (found.baseline, found.candidate))


def test_a_session_that_was_cancelled_is_not_the_first_baseline(planned, store):
    cancelled, first, second = planned(without=3), planned(), planned()
    store.add(cancelled, first, second)
    found = pair(store)
    assert ids(found) == (first[0].session_id, second[0].session_id)
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"Left out, because unfinished: {cancelled[0].session_id[:13]} (2026-")
    assert "with 12 of 15 runs" in found.notes[0]
    assert judge(store.root).notes == found.notes
    named = pair(store, baseline=cancelled[0].session_id)
    assert ids(named)[0] == cancelled[0].session_id
    assert named.notes == ()


def test_a_session_that_was_cancelled_is_not_the_candidate(planned, store):
    first, second, cancelled = planned(), planned(), planned(without=1)
    store.add(first, second, cancelled)
    found = pair(store)
    assert ids(found) == (first[0].session_id, second[0].session_id)
    assert "with 14 of 15 runs" in found.notes[0]
    assert choose_session(store.root, "latest").session_id == second[0].session_id
    named = pair(store, candidate=cancelled[0].session_id)
    assert ids(named) == (first[0].session_id, cancelled[0].session_id)
    assert named.notes == ()
    assert "with 14 of 15 runs" in pair(store, baseline="latest~1").notes[0]


def test_an_accepted_baseline_stays_whether_finished_or_not(planned, store):
    cancelled, first = planned(without=3), planned()
    store.add(cancelled, first)
    judgements.accept(store.root, "demo", cancelled[0].session_id, by="me", reason="good enough")
    found = pair(store)
    assert ids(found) == (cancelled[0].session_id, first[0].session_id)
    assert found.notes == ()
    judgements.accept(store.root, "demo", first[0].session_id, by="me", reason="whole")
    assert pair(store).notes == ()


def test_where_no_session_is_finished_nothing_is_chosen_silently(planned, store):
    only = planned(without=3)
    store.add(only)
    with pytest.raises(UsageError, match="none of 1 session finished") as caught:
        pair(store)
    assert only[0].session_id[:13] in str(caught.value)
    found = pair(store, candidate=only[0].session_id)
    assert found.baseline is None
    assert "no finished session with a valid run" in judge(store.root, candidate=only[0].session_id).sentence


def test_what_a_session_set_out_to_do_and_did_not(planned, store, lab, cases):
    failing = [record for record in planned(failing=(cases[0],)) if record.case_key != cases[0] or record.repeat == 0]
    killed = planned()
    killed[0] = replace(killed[0], status=RunStatus.FAILED, metrics=())
    unsaid = lab.session()[:7]
    searched = [replace(r, session=r.session | {"cases": []}) for r in lab.session()[:7]]
    short, whole = planned(without=4), planned()
    without_a_case = [record for record in planned() if record.case_key != cases[2]]
    store.add(failing, killed, unsaid, searched, short, whole, without_a_case)
    with Reader.open(store.root) as reader:
        missing = [session.missing_runs for session in read_sessions(reader)]
    # A case that cannot be built is tried once; who does not say what was planned is taken as it is.
    assert missing == [0, 0, 0, 0, 4, 0, 5]
