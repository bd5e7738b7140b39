"""What a worker does after it has measured: looks inside, checks accuracy, and spoils no measurement by it."""

from __future__ import annotations

import dataclasses
import errno
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Phase
from enginewatch_harness import worker
from enginewatch_harness.accuracy.compare import ACCURACY_METRICS
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
from enginewatch_harness.models import input_shapes, write_model
from enginewatch_harness.wire import EVENTS, LOOK_S, NOT_YET, WorkOrder, read_result, write_order, write_result


@pytest.fixture
def order(tmp_path) -> WorkOrder:
    path = write_model("convnet_tiny", tmp_path / "net.onnx")
    job = Job(
        case_key="net/onnxruntime/fp32/b1",
        workload="net",
        model_path=path,
        model_name="net",
        precision="fp32",
        warmup_s=0.0,
        duration_s=0.02,
        seed=1,
        shapes=input_shapes("convnet_tiny", 1),
    )
    return WorkOrder(
        action="measure",
        backend="onnxruntime",
        job=job,
        engine_path=path,
        profile=True,
        accuracy=True,
        cache_dir=tmp_path / "cache",
    )


@pytest.fixture
def run(tmp_path, order):
    """Let a worker do the order; return its measurement after the way over the disk, and its phases."""

    def run(**changes):
        folder = tmp_path / "run"
        folder.mkdir()
        write_order(folder, dataclasses.replace(order, **changes))
        write_result(folder, worker.work(folder))
        events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
        return read_result(folder).measurement, {item["phase"]: item["t_ns"] for item in events if "phase" in item}

    return run


def accuracy(measurement):
    return {item.metric: item for item in measurement.metrics if item.metric in ACCURACY_METRICS}


def test_profile_and_accuracy_lie_behind_everything_timed(run, tmp_path):
    measurement, phases = run()
    assert list(phases) == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN, Phase.PROFILE, Phase.ACCURACY]
    assert phases["measure"] <= measurement.window_ns[0] < measurement.window_ns[1] <= phases["drain"]
    assert sorted(phases.values()) == list(phases.values())
    assert set(measurement.tables) == {"latency_samples", "layers"}
    assert accuracy(measurement)["output_rel_l2"].value < 1e-5
    assert list((tmp_path / "cache" / "reference").iterdir())


def test_a_profile_that_fails_is_a_note(run, monkeypatch):
    def fail(*_):
        raise BackendError("the profiler is busy", code="crashed")

    monkeypatch.setattr(OnnxRuntimeBackend, "profile", fail)
    measurement, phases = run()
    assert "no profile: the profiler is busy" in measurement.notes
    assert "layers" not in measurement.tables
    assert measurement.counts["inferences"] >= 1
    assert accuracy(measurement)["output_rel_l2"].value is not None, "the accuracy is taken all the same"
    assert Phase.ACCURACY in phases


def test_an_engine_that_does_not_answer_has_no_accuracy(run, monkeypatch):
    def fail(*_):
        raise BackendError("shape refused", code="shape_outside_profile")

    monkeypatch.setattr(OnnxRuntimeBackend, "infer", fail)
    measurement, _ = run()
    assert measurement.counts["inferences"] >= 1
    assert {item.absent_reason for item in accuracy(measurement).values()} == {
        "the engine did not answer the reference's inputs: shape refused"
    }


def test_an_engine_that_is_wrong_fails_the_run(run, monkeypatch):
    def fail(*_):
        raise BackendError("NaN", code="output_not_finite")

    monkeypatch.setattr(OnnxRuntimeBackend, "infer", fail)
    with pytest.raises(BackendError, match="NaN"):
        run()


def test_nothing_is_done_that_was_not_ordered(run, monkeypatch):
    for name in ("profile", "infer"):
        monkeypatch.setattr(OnnxRuntimeBackend, name, lambda *_: pytest.fail("was not ordered"))
    measurement, phases = run(profile=False, accuracy=False, no_accuracy="because")
    assert list(phases) == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    assert {item.absent_reason for item in accuracy(measurement).values()} == {"because"}
    assert set(measurement.tables) == {"latency_samples"}


def test_what_the_accuracy_is_taken_on_is_noted(run, order, tmp_path):
    np.savez(tmp_path / "real.npz", input=np.ones((3, 3, 32, 32), np.float32))
    job = dataclasses.replace(order.job, options={"accuracy_data": str(tmp_path / "real.npz")})
    measurement, _ = run(job=job, profile=False)
    assert measurement.notes[-1].startswith("accuracy on 3 batches of real.npz (sha256 ")


def test_what_is_known_is_written_before_each_look_inside(run, monkeypatch, tmp_path):
    seen = []

    def look(self, *arguments):
        seen.append(read_result(tmp_path / "run"))
        raise BackendError("enough seen", code="crashed")

    monkeypatch.setattr(OnnxRuntimeBackend, "infer", look)
    real_profile = OnnxRuntimeBackend.profile

    def profile(self, *arguments):
        seen.append(read_result(tmp_path / "run"))
        return real_profile(self, *arguments)

    monkeypatch.setattr(OnnxRuntimeBackend, "profile", profile)
    measurement, _ = run()
    assert [set(result.measurement.tables) for result in seen] == [{"latency_samples"}, {"latency_samples", "layers"}]
    for result in seen:
        assert result.early
        assert result.sentinel_ns
        assert result.measurement.window_ns == measurement.window_ns
        assert {item.absent_reason for item in accuracy(result.measurement).values()} == {NOT_YET}
    assert not read_result(tmp_path / "run").early
    assert NOT_YET not in {item.absent_reason for item in measurement.metrics}
    assert len(list((tmp_path / "run").glob("*.parquet"))) == 2, "the tables of early results are gone"


def test_a_kill_while_the_result_is_written_leaves_the_earlier_one_whole(run, monkeypatch, tmp_path):
    run(accuracy=False)
    folder = tmp_path / "run"
    earlier = read_result(folder)
    real_write = pq.write_table

    def write_half(table, path, **options):
        if "layers" in str(path):
            raise KeyboardInterrupt
        real_write(table, path, **options)

    monkeypatch.setattr(pq, "write_table", write_half)
    tables = {name: table.slice(0, 1) for name, table in earlier.measurement.tables.items()}
    later = dataclasses.replace(earlier, measurement=dataclasses.replace(earlier.measurement, tables=tables, notes=()))
    with pytest.raises(KeyboardInterrupt):
        write_result(folder, later)
    assert read_result(folder) == earlier
    monkeypatch.setattr(pq, "write_table", real_write)
    write_result(folder, later)
    assert read_result(folder) == later


@pytest.fixture
def main(order, monkeypatch, tmp_path):
    """Let the worker's program do the order; return its folder."""

    def run():
        folder = tmp_path / "run"
        folder.mkdir()
        write_order(folder, order)
        monkeypatch.setattr(worker, "die_with_parent", lambda: None)
        monkeypatch.setattr(worker.sys, "argv", ["worker", str(folder)])
        assert worker.main() == 0
        return folder

    return run


def test_an_engine_that_is_wrong_replaces_the_early_result_by_its_failure(main, monkeypatch):
    def fail(*_):
        raise BackendError("NaN", code="output_not_finite")

    monkeypatch.setattr(OnnxRuntimeBackend, "infer", fail)
    folder = main()
    result = read_result(folder)
    assert result.failure.code == "output_not_finite"
    assert result.measurement is None
    assert not result.early
    assert list(folder.glob("*.parquet")) == []


def test_a_disk_that_fills_up_under_the_early_result_is_told_as_such(main, monkeypatch):
    def fill_up(_table, path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fill_up)
    folder = main()
    assert read_result(folder).failure.code == "disk_full"
    assert list(folder.glob("*.parquet")) == []


@pytest.mark.parametrize("name", ["profile", "infer"])
def test_an_unforeseen_fault_while_looking_inside_costs_no_measurement(run, monkeypatch, name):
    def fail(*_):
        raise ZeroDivisionError("in a library")

    monkeypatch.setattr(OnnxRuntimeBackend, name, fail)
    measurement, _ = run()
    told = {*measurement.notes, *(item.absent_reason for item in accuracy(measurement).values())}
    assert any("ZeroDivisionError: in a library" in str(words) for words in told)


def test_looking_inside_has_a_minute_whatever_is_left(run, order, monkeypatch):
    given = []
    monkeypatch.setattr(worker, "asked_for", lambda order: given.append(order.timeout_s))
    run(timeout_s=0.001, profile=False, accuracy=False)
    assert given[0] > LOOK_S
