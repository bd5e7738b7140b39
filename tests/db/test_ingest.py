"""Bundles go in exactly once, bad ones are set aside, and readers never see a lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import duckdb
import pytest

from enginewatch_db import bundle
from enginewatch_db.connect import Reader, writer
from enginewatch_db.errors import BundleError, StorageError, StoreLockedError, StoreVersionError, UsageError
from enginewatch_db.ingest import ingest, pending, rebuild
from enginewatch_db.judgements import accept


def count(workspace, table: str) -> int:
    with Reader.open(workspace) as reader:
        return reader.console(f"SELECT count(*) AS n FROM {table}").column("n")[0].as_py()


def test_a_bundle_lands_whole_and_once(workspace, make_run):
    record, tables = make_run(n=250)
    path = bundle.write(workspace.spool, record, tables)
    assert ingest(workspace).ingested == (record.run_id,)
    assert not path.exists()
    assert count(workspace, "latency_samples") == 250
    assert count(workspace, "v_metrics") == len(record.metrics)

    bundle.write(workspace.spool, record, tables)
    again = ingest(workspace)
    assert again.ingested == ()
    assert again.known == (record.run_id,)
    assert count(workspace, "runs") == 1
    assert count(workspace, "latency_samples") == 250


def test_a_record_survives_the_round_trip(workspace, make_run):
    record, tables = make_run()
    assert bundle.read_record(bundle.write(workspace.spool, record, tables)) == record


def test_samples_are_the_ones_measured(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    with Reader.open(workspace) as reader:
        found = reader.console("SELECT latency_ns FROM latency_samples ORDER BY start_ns").column("latency_ns")
    assert found.to_pylist() == tables["latency_samples"].column("latency_ns").to_pylist()


@pytest.mark.parametrize("damage", ["cut", "absent", "no manifest", "garbage", "newer"])
def test_a_damaged_bundle_is_quarantined_and_the_rest_goes_in(workspace, make_run, damage):
    bad, tables = make_run()
    path = bundle.write(workspace.spool, bad, tables)
    samples, manifest = path / "latency_samples.parquet", path / bundle.MANIFEST
    if damage == "cut":
        samples.write_bytes(samples.read_bytes()[:-10])
    elif damage == "absent":
        samples.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "garbage":
        manifest.write_bytes(b"\xff{not json")
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "bundle_schema": 99}))
    good, tables = make_run(repeat=1)
    bundle.write(workspace.spool, good, tables)

    report = ingest(workspace)

    assert report.ingested == (good.run_id,)
    assert set(report.quarantined) == {bad.run_id}
    assert (workspace.quarantine / bad.run_id / "reason.txt").read_text().strip() == report.quarantined[bad.run_id]
    assert count(workspace, "quarantine") == 1
    assert pending(workspace) == 0


def test_a_dead_writers_half_bundle_is_set_aside_and_a_living_ones_is_left(workspace, make_run):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    half = workspace.spool / f".tmp-{dead.pid}-abc"
    half.mkdir()
    living = workspace.spool / f".tmp-{os.getpid()}-def"
    living.mkdir()
    assert list(ingest(workspace).quarantined) == [f"tmp-{dead.pid}-abc"]
    assert living.exists()


def test_a_kill_between_commit_and_move_doubles_nothing(workspace, make_run):
    record, tables = make_run()
    path = bundle.write(workspace.spool, record, tables)
    from enginewatch_db.ingest import insert

    with writer(workspace) as connection:
        assert insert(connection, bundle.read(path))
    report = ingest(workspace)
    assert report.known == (record.run_id,)
    assert count(workspace, "runs") == 1


def test_a_failed_insert_leaves_nothing_of_the_run(workspace, make_run, monkeypatch):
    record, tables = make_run()
    path = bundle.write(workspace.spool, record, tables)
    from enginewatch_db import ingest as module

    def fail(*_: object) -> None:
        raise duckdb.IOException("disk")

    monkeypatch.setattr(module, "_insert_run", fail)
    with pytest.raises(StorageError, match="cannot be written: disk"):
        ingest(workspace)
    monkeypatch.undo()
    assert path.exists()
    assert ingest(workspace).ingested == (record.run_id,)
    assert count(workspace, "latency_samples") == tables["latency_samples"].num_rows


def test_columns_of_a_newer_writer_are_noted_and_the_rest_kept(workspace, make_run):
    import hashlib

    import pyarrow.parquet as pq

    record, tables = make_run()
    path = bundle.write(workspace.spool, record, tables)
    file = path / "latency_samples.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("future_ns", table.column("latency_ns")), file)
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    manifest["files"][file.name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (path / bundle.MANIFEST).write_text(json.dumps(manifest))
    ingest(workspace)
    with Reader.open(workspace) as reader:
        ledger = reader.console("SELECT dropped_columns FROM ingest_ledger").column(0).to_pylist()
    assert ledger == [["latency_samples.future_ns"]]


def test_two_writers_wait_for_each_other(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    with (
        workspace.lock("ingest", wait_s=0, busy="held"),
        pytest.raises(StoreLockedError, match=f"process {os.getpid()}"),
    ):
        ingest(workspace, wait_s=0)
    assert ingest(workspace).ingested == (record.run_id,)


def test_a_store_of_a_newer_schema_is_refused_and_untouched(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    with writer(workspace) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'future', 'x', now(), '9', '9')")
    with pytest.raises(StoreVersionError, match="schema 999"):
        ingest(workspace)
    assert pending(workspace) == 1


def test_a_file_that_is_no_store_is_named(workspace):
    workspace.store.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match=r"store\.duckdb"):
        ingest(workspace)


def test_readers_read_while_a_writer_writes(workspace, make_run):
    for repeat in range(2):
        record, tables = make_run(repeat=repeat)
        bundle.write(workspace.spool, record, tables)
        ingest(workspace)
        if repeat == 0:
            held = Reader.open(workspace)
    assert held.console("SELECT count(*) FROM runs").column(0)[0].as_py() == 1
    held.close()
    assert count(workspace, "runs") == 2


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (a INT)",
        "INSERT INTO runs SELECT * FROM runs",
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY runs TO '/tmp/out.csv'",
        "SET enable_external_access = true",
        "ATTACH '/tmp/other.duckdb'",
        "INSTALL httpfs",
        "SELEC 1",
    ],
)
def test_the_console_reads_the_store_and_nothing_else(workspace, make_run, sql):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    with Reader.open(workspace) as reader, pytest.raises(UsageError):
        reader.console(sql)


def test_a_runaway_query_is_stopped(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    with Reader.open(workspace) as reader, pytest.raises(UsageError, match=r"longer than 0\.2 s"):
        reader.console("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", timeout_s=0.2)


def test_many_readers_in_one_process(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    with Reader.open(workspace) as one, Reader.open(workspace) as other:
        for reader in (one, other):
            assert reader.console("SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 1}]
            zone = reader.console("SELECT current_setting('TimeZone') AS zone").to_pylist()
            assert zone == [{"zone": "UTC"}]
            with pytest.raises(UsageError):
                reader.console("SET enable_external_access = true")


def test_no_store_says_what_to_do(workspace):
    with pytest.raises(StorageError, match="enginewatch demo"):
        Reader.open(workspace)


def test_the_store_can_be_rebuilt_from_bundles(workspace, make_run):
    for repeat in range(3):
        record, tables = make_run(repeat=repeat)
        bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    accept(workspace, "test-plan", record.session_id, by="ada", reason="first")
    report, aside = rebuild(workspace)
    assert len(report.ingested) == 3
    assert aside is not None
    assert count(workspace, "runs") == 3
    assert count(workspace, "baselines") == 1
    workspace.store.unlink()
    report, aside = rebuild(workspace)
    assert (len(report.ingested), aside) == (3, None)


def test_an_old_store_that_cannot_be_read_is_told_and_the_runs_are_there(workspace, make_run):
    record, tables = make_run()
    bundle.write(workspace.spool, record, tables)
    ingest(workspace)
    workspace.store.write_bytes(b"garbage" * 5000)
    with pytest.raises(StorageError, match="the runs are in the new store"):
        rebuild(workspace)
    assert count(workspace, "runs") == 1


@pytest.mark.parametrize("files", [[], {"latency_samples.parquet": None}, {"latency_samples.parquet": {}}, None])
def test_a_manifest_without_its_files_is_quarantined(workspace, make_run, files):
    record, tables = make_run()
    path = bundle.write(workspace.spool, record, tables)
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    (path / bundle.MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    assert "does not list its files" in ingest(workspace).quarantined[record.run_id]


def test_disk_full_leaves_nothing_behind(workspace, make_run, monkeypatch):
    import errno

    from enginewatch_db.errors import DiskFullError

    record, tables = make_run()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle, "_write_synced", full)
    with pytest.raises(DiskFullError, match=record.case_key):
        bundle.write(workspace.spool, record, tables)
    assert list(workspace.spool.iterdir()) == []


def test_an_undeclared_column_is_refused(workspace, make_run):
    record, tables = make_run()
    tables["latency_samples"] = tables["latency_samples"].append_column(
        "surprise", tables["latency_samples"].column("latency_ns")
    )
    with pytest.raises(ValueError, match="surprise"):
        bundle.write(workspace.spool, record, tables)
    assert list(workspace.spool.iterdir()) == []


def test_reading_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="half a bundle"):
        bundle.read_record(tmp_path)
