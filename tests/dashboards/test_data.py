"""The door to the store: one reader a version, reopened when something was published."""

from __future__ import annotations

import pytest

from enginewatch_dashboards.components.freshness import published_at
from enginewatch_dashboards.data import READERS, Readers, as_json, is_outdated, open_store
from enginewatch_db.connect import statement
from enginewatch_db.errors import StorageError, UsageError
from enginewatch_db.ingest import ingest
from enginewatch_db.workspace import Workspace


@pytest.fixture
def growing(seed, tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "ew").create()
    seed.write_session(workspace, 1, repeats=1, cases=seed.CASES[:1])
    ingest(workspace)
    monkeypatch.setenv("ENGINEWATCH_STORE", str(workspace.root))
    return workspace


def test_a_published_version_is_seen_at_once(growing, seed):
    before = open_store()
    assert before.row("freshness")["runs"] == 1
    assert not is_outdated(before)
    seed.write_session(growing, 2, repeats=1, cases=seed.CASES[:1])
    ingest(growing)
    assert is_outdated(before)
    after = open_store()
    assert after.version != before.version
    assert after.row("freshness")["runs"] == 2
    # A page that began before still gets its own version.
    assert len(before.rows("sessions", limit=5)) == 1


def test_one_reader_a_version_and_old_ones_are_closed(growing):
    readers = Readers()
    first = readers.get(growing)
    assert readers.get(growing) is first
    versions = {first.version}
    for _ in range(4):
        ingest(growing)
        versions.add(readers.get(growing).version)
    assert len(versions) == 5
    with pytest.raises(StorageError, match="was replaced"):
        readers.find(str(first.version))
    newest = readers.get(growing)
    assert newest.table("dash_freshness").num_rows == 1


def test_no_store_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="there is no store") as caught:
        open_store()
    assert "enginewatch demo" in caught.value.remedy


def test_answers_are_cached_by_version_and_parameters(rich, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(rich.workspace.root))
    store = open_store()
    reader = READERS.find(store.version)
    asked = []
    original = reader.table
    monkeypatch.setattr(reader, "table", lambda name, **values: asked.append(name) or original(name, **values))
    for _ in range(3):
        store.rows("series_metrics", series="00000000-0000-0000-0000-000000000001")
        store.columns("samples", run="00000000-0000-0000-0000-000000000001", buckets=10)
    store.rows("series_metrics", series="00000000-0000-0000-0000-000000000002")
    assert asked == ["dash_series_metrics", "dash_samples", "dash_series_metrics"]


def test_cached_rows_cannot_be_spoilt(rich, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(rich.workspace.root))
    store = open_store()
    store.rows("sessions", limit=9)[0]["plan_name"] = "spoilt"
    assert store.rows("sessions", limit=9)[0]["plan_name"] == "nightly"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO baselines VALUES ('p', uuid(), now(), 'x', 'y')",
        "DROP TABLE runs",
        "UPDATE runs SET valid = true",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY runs TO 'stolen.csv'",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SELECT * FROM glob('/*')",
    ],
)
def test_the_console_neither_writes_nor_reads_files(rich, monkeypatch, sql):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(rich.workspace.root))
    with pytest.raises(UsageError, match="refused"):
        open_store().console(sql)


def test_every_statement_of_the_dashboard_says_what_it_returns():
    from importlib import resources

    names = [
        entry.name.removesuffix(".sql")
        for entry in resources.files("enginewatch_db").joinpath("queries").iterdir()
        if entry.name.startswith("dash_")
    ]
    assert len(names) > 20
    for name in names:
        assert statement(name).startswith("-- "), name


def test_json_columns():
    assert as_json(None) == as_json("") == {}
    assert as_json('{"a": 1}') == {"a": 1}
    assert as_json("[1]") == {"value": [1]}


def test_a_versions_name_tells_when_it_was_published(rich):
    assert published_at("/x/store-1795266974142782032.duckdb").year == 2026
    assert published_at("/x/other.duckdb") is None
