"""What a worker does after it has measured: looks inside, checks accuracy, and spoils no measurement by it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Phase
from enginewatch_harness import worker
from enginewatch_harness.accuracy.compare import ACCURACY_METRICS
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
from enginewatch_harness.models import input_shapes, write_model
from enginewatch_harness.wire import EVENTS, WorkOrder, read_result, write_order, write_result


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
