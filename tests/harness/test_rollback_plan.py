"""What a rollback says of cases and engines that it cannot give, and the policy beside the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewatch_db.errors import UsageError
from enginewatch_db.model import EngineRecord
from enginewatch_harness.commands.rollback import _choose, _rebuild
from enginewatch_harness.engine_cache import Entry, State
from enginewatch_harness.engine_fit import Here
from enginewatch_harness.engine_registry import Engine
from enginewatch_harness.rollback import Bundle, file_sha256, policy_place, write_bundle

CASES = ("net/trtexec/fp16/b8", "net/trtexec/fp32/b1")
NOTHING = Here(backend="trtexec", version=None, devices={})


def engine(folder: Path | None = None) -> Engine:
    """Return an engine that lies in the folder, or nowhere."""
    sha256 = file_sha256(folder / "engine") if folder else "ab" * 32
    record = EngineRecord(engine_key="k", engine_sha256=sha256, path="", size_bytes=1, cached=False, backend="trtexec")
    entry = Entry(folder=folder, state=State.OK, record=record, size_bytes=1) if folder else None
    return Engine(record=record, entry=entry, stored=True, cases=CASES)


def bundle(session: dict[str, object], folder: Path | None = None) -> Bundle:
    """Return a bundle of that session."""
    return Bundle(engine=engine(folder), case_key=CASES[0], why="asked for", session=session, versions={})


@pytest.mark.parametrize(
    ("case", "near"), [("net/trtexec/fp61/b8", CASES[0]), ("net/trtexec/fp32/b", None), ("nonsense/case", CASES[1])]
)
def test_an_unknown_case_gets_the_nearest_and_a_known_one_a_way_to_a_good_engine(case, near):
    with pytest.raises(UsageError) as refused:
        _choose((), case, [engine()], lambda _: NOTHING)
    if near is None:
        assert "there is no last good engine" in str(refused.value)
        assert "accept a session" in str(refused.value)
        assert f"{case!r} ({CASES[1]})" in str(refused.value)
    else:
        assert f"no engine was measured in a case {case!r}" in str(refused.value)
        assert near in str(refused.value)


def test_an_imported_engine_has_no_command_that_builds_it(tmp_path):
    told = _rebuild(bundle({"plan_text": None, "plan_path": None}), tmp_path / "good", altered=False)
    assert "cannot be built again here: its session was imported" in told
    assert "enginewatch run" not in told
    told = _rebuild(bundle({"plan_text": None, "plan_path": "my.toml"}), tmp_path / "good", altered=False)
    assert "`enginewatch run my.toml --case net/trtexec/fp16/b8 " in told


@pytest.mark.parametrize(
    ("named", "place", "told"),
    [
        ("rules/policy.toml", "rules/policy.toml", None),
        ("../policy.toml", "policy.toml", "`policy.toml` is its text"),
        ("/etc/policy.toml", "policy.toml", "`policy.toml` is its text"),
    ],
)
def test_the_policy_lies_where_the_plan_names_it(named, place, told, tmp_path):
    cached = tmp_path / "cached"
    cached.mkdir()
    (cached / "engine").write_bytes(b"engine")
    session = {"plan_text": f'policy = "{named}"\n', "policy_text": "x = 1\n"}
    files = write_bundle(bundle(session, cached), tmp_path / "good")
    assert place in files
    assert (tmp_path / "good" / place).read_text() == "x = 1\n"
    assert f"  {place}\n" in (tmp_path / "good" / "SHA256SUMS").read_text()
    readme = (tmp_path / "good" / "README.md").read_text()
    assert told is None or told in readme
    assert ("names the policy" in readme) == (told is not None)
    without = write_bundle(bundle({**session, "policy_text": None}, cached), tmp_path / "old")
    assert place not in without
    assert "which the store did not keep" in (tmp_path / "old" / "README.md").read_text()


def test_a_plan_without_a_policy_needs_none():
    assert policy_place({"plan_text": "name = 'p'", "policy_text": None}) is None
    assert policy_place({"plan_text": None}) is None
