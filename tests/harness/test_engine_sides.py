"""The two sides of a comparison of engines: runs that were measured alike, and exports that are damaged."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from enginewatch_db import tables
from enginewatch_db.bundle import write
from enginewatch_db.errors import MeasurementError, UsageError
from enginewatch_db.ingest import ingest
from enginewatch_db.model import EngineRecord
from enginewatch_harness import cli
from enginewatch_harness.engine_sides import Side, difference, load_pair, measured_as

RECORDED = Path(__file__).parents[1] / "data" / "harness" / "trtexec"
SESSION = "01900000-0000-7000-8000-000000000001"
FP16, INT8, OTHER = "aa" * 32, "bb" * 32, "cc" * 32


@pytest.fixture
def store(workspace, make_run, make_identity):
    """Store two engines that were each measured at three batches, the last of them at another, and one of a GPU."""

    def add(sha256: str, precision: str, batch: int, device: str, *, mean_ns: int | None = 1000) -> None:
        identity = make_identity(precision=precision, device=device, shapes={"input": [batch, 3]})
        case_key = f"net/trtexec/{precision}/b{batch}"
        record, made = make_run(session_id=SESSION, case_key=case_key, identity=identity, n=20)
        engine = EngineRecord(
            engine_key=f"{sha256[:8]}-0000-8000-8000-000000000000",
            engine_sha256=sha256,
            path="",
            size_bytes=1,
            cached=False,
            build_time_s=1.0,
        )
        layers = pa.table({"layer_idx": [0], "name": ["conv"], "mean_ns": pa.array([mean_ns], pa.int64())})
        made["layers"] = tables.conform("layers", layers)
        write(workspace.spool, dataclasses.replace(record, engine=engine), made)

    for batch in (1, 8, 32):
        add(FP16, "fp16", batch, "NVIDIA H200", mean_ns=1000 * batch)
    add(INT8, "int8", 1, "NVIDIA H200", mean_ns=None)
    add(INT8, "int8", 8, "NVIDIA H200", mean_ns=5000)
    add(INT8, "int8", 64, "NVIDIA H200")
    add(OTHER, "int8", 8, "NVIDIA L4")
    ingest(workspace)
    return workspace


def test_engines_are_compared_in_what_both_were_measured_with(store):
    one, other = load_pair(FP16[:8], INT8[:8], store)
    assert (one.case_key, other.case_key) == ("net/trtexec/fp16/b8", "net/trtexec/int8/b8")
    other, one = load_pair(INT8[:8], FP16[:8], store)
    assert (one.case_key, other.case_key) == ("net/trtexec/fp16/b8", "net/trtexec/int8/b8")
    assert difference(one, other) is None


def test_a_case_that_was_named_chooses_the_others_run_even_one_without_times(store):
    one, other = load_pair(f"{SESSION[:13]}:net/trtexec/fp16/b1", INT8[:8], store)
    assert (one.case_key, other.case_key) == ("net/trtexec/fp16/b1", "net/trtexec/int8/b1")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((FP16[:8], OTHER[:8]), ("b8 (NVIDIA H200)", "b8 (NVIDIA L4)")),
        ((f"{SESSION[:13]}:net/trtexec/fp16/b32", INT8[:8]), ("fp16/b32", "int8/b64")),
    ],
)
def test_engines_that_were_never_measured_alike_are_refused_with_their_cases(store, pair, words):
    with pytest.raises(UsageError) as error:
        load_pair(*pair, store)
    assert all(word in error.value.message for word in words)
    assert "SESSION:CASE" in str(error.value.remedy)


def test_two_cases_that_were_named_are_compared_and_the_warning_leads(store, capsys):
    named = [f"{SESSION[:13]}:net/trtexec/{case}" for case in ("fp16/b8", "int8/b64")]
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["engines", "diff", *named, "--store", str(store.root), *extra])
        assert not end.value.code
        said = capsys.readouterr()
        assert "differ in batch and shapes" in said.err
        first = json.loads(said.out)["warning"] if extra else said.out.splitlines()[0]
        assert "differ in batch and shapes" in first


@pytest.mark.parametrize("damage", ["cut", "false", "flipped"])
def test_an_export_that_is_no_whole_gzip_file_is_named(workspace, tmp_path, damage):
    given = tmp_path / "fp16.layers.json.gz"
    whole = (RECORDED / "resnet50-fp16-b8.layers.json.gz").read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle : middle + 64]) + whole[middle + 64 :]
    given.write_bytes({"cut": whole[:middle], "false": gzip.decompress(whole), "flipped": flipped}[damage])
    with pytest.raises(MeasurementError) as error:
        load_pair(str(given), str(given), workspace)
    assert error.value.code == "results_damaged"
    assert str(given) in error.value.message


def test_the_row_of_the_measured_times_says_what_they_are():
    def side(total_is: str | None) -> Side:
        return Side(name="a", source="b", layers=(), total_ns=None if total_is is None else 1, total_is=total_is)

    gpu, latency, none = side("median GPU time"), side("mean latency"), side(None)
    assert measured_as(gpu, gpu) == "measured (median GPU time)"
    assert measured_as(gpu, latency) == "measured (median GPU time, mean latency)"
    assert measured_as(none, latency) == "measured (mean latency)"
    assert measured_as(none, none) == "measured"
