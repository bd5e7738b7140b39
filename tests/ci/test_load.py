from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from enginewatch_ci.facts import Arm
from enginewatch_ci.load import bundle_arm, read_accepted, read_arm, read_history, read_sessions
from enginewatch_db import judgements
from enginewatch_db.connect import Reader
from enginewatch_db.errors import BundleError, UsageError
from enginewatch_db.model import EngineRecord
from enginewatch_db.validity import Reason


def test_store_and_bundles_give_the_same_arm(lab, store, tmp_path, cases):
    records = lab.session(label="one", commit="3f9c1d2", failing=(cases[0],), facets={"driver": "570"})
    engine = EngineRecord(
        engine_key="k", engine_sha256="s" * 64, path="p", size_bytes=1, cached=False, fingerprint="abc"
    )
    records[1] = replace(records[1], engine=engine, reasons=(Reason(code="host_busy", detail="0.7 cores"),))
    store.add(records)
    folder = store.bundles(tmp_path / "bundles", records)
    with Reader.open(store.root) as reader:
        sessions = read_sessions(reader)
        stored = read_arm(reader, "x", sessions)
    loose = bundle_arm("x", folder)
    assert not loose.stored
    assert replace(loose, stored=True) == stored
    assert stored.runs[1].fingerprint == "abc"
    assert stored.runs[1].reasons == (Reason(code="host_busy", detail="0.7 cores"),)
    assert stored.runs[0].failure.code == "build_failed"
    assert stored.runs[1].facets["host"] == "lab1"
    assert sessions[0].runs == 15
    assert sessions[0].valid_runs == 10


def test_sessions_come_oldest_first(lab, store):
    first, second = lab.session(label="first"), lab.session(label="second")
    store.add(second, first)
    with Reader.open(store.root) as reader:
        assert [session.label for session in read_sessions(reader)] == ["first", "second"]


def test_the_newest_accept_entry_counts(lab, store):
    first, second = lab.session(), lab.session()
    store.add(first, second)
    with Reader.open(store.root) as reader:
        assert read_accepted(reader) == {}
    judgements.accept(store.root, "demo", second[0].session_id, by="me", reason="slower on purpose")
    judgements.accept(store.root, "demo", first[0].session_id, by="me", reason="a mistake")
    with Reader.open(store.root) as reader:
        assert read_accepted(reader) == {"demo": first[0].session_id}


def test_history_is_earlier_valid_and_of_neither_arm(lab, store, cases):
    sessions = [lab.session(repeats=2, rejected={cases[1]: "client_bound"}) for _ in range(4)]
    store.add(*sessions)
    with Reader.open(store.root) as reader:
        known = read_sessions(reader)
        arms = [read_arm(reader, "b", known[:1]), read_arm(reader, "c", known[3:])]
        history = read_history(reader, arms, known[3].started_at, ("latency_p50_ms",))
        earlier = read_history(reader, arms, known[1].started_at + timedelta(seconds=1), ("latency_p50_ms",))
    values = {
        run.run_id: run.metrics[0].value for records in sessions[1:3] for run in records if run.case_key == cases[0]
    }
    series = arms[0].of_case(cases[0])[0].series_id
    assert history[series, "latency_p50_ms"] == tuple(values.values())
    assert arms[0].of_case(cases[1])[0].series_id not in {key for key, _ in history}
    assert len(earlier[series, "latency_p50_ms"]) == 1


def test_folders_without_usable_bundles(lab, store, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run bundle"):
        bundle_arm("x", tmp_path / "empty")
    mixed = store.bundles(tmp_path / "mixed", lab.session(repeats=1))
    store.bundles(mixed, lab.session(repeats=1, plan="other"))
    with pytest.raises(UsageError, match="bundles of the plans demo, other"):
        bundle_arm("x", mixed)
    broken = tmp_path / "broken" / "run"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text("{}")
    with pytest.raises(BundleError):
        bundle_arm("x", tmp_path / "broken")


def test_several_sessions_make_one_arm(lab, store, tmp_path):
    folder = store.bundles(tmp_path / "b", lab.session(repeats=1))
    store.bundles(folder, lab.session(repeats=2))
    arm = bundle_arm("x", folder)
    assert isinstance(arm, Arm)
    assert len(arm.sessions) == 2
    assert arm.title.endswith("and 1 more")
    assert len(arm.runs) == 9
