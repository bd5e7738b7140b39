"""The ONNX Runtime backend, run for real on small models: build, measure, profile, and every failure."""

from __future__ import annotations

import dataclasses
import gc
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewatch_db.errors import FAILURE_CODES, BackendError, PlanError
from enginewatch_db.model import Phase
from enginewatch_db.tables import LATENCY_SAMPLES, LAYERS
from enginewatch_harness.accuracy.check import check
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
from enginewatch_harness.models import input_shapes, write_model

BACKEND = OnnxRuntimeBackend()
WORKING = ("fp32", "fp16", "int8", "int8_dynamic")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("convnet_tiny", "transformer_tiny"):
        write_model(kind, folder / f"{kind}.onnx")
    return folder


@pytest.fixture
def surroundings(tmp_path):
    phases: list[Phase] = []
    reports: list[tuple[int, float | None]] = []
    context = Context(
        work_dir=tmp_path / "work",
        t0_ns=time.monotonic_ns(),
        enter=phases.append,
        progress=lambda n, median_ms: reports.append((n, median_ms)),
    )
    return context, phases, reports


@pytest.fixture
def context(surroundings) -> Context:
    return surroundings[0]


def make_job(path: Path, kind: str, precision: str = "fp32", batch: int = 2, **changes) -> Job:
    job = Job(
        case_key=f"{kind}/onnxruntime/{precision}/b{batch}",
        workload=kind,
        model_path=path,
        model_name=kind,
        precision=precision,
        warmup_s=0.01,
        duration_s=0.05,
        seed=3,
        shapes=input_shapes(kind, batch),
    )
    return dataclasses.replace(job, **changes)


def one_node_model(path: Path, node: onnx.NodeProto, weights: list[onnx.TensorProto], dims: list[int | str]) -> Path:
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_tiny"])
@pytest.mark.parametrize("precision", WORKING)
def test_build_and_measure(kind, precision, models, tmp_path, surroundings):
    context, phases, _ = surroundings
    job = make_job(models / f"{kind}.onnx", kind, precision)
    record = BACKEND.build(job, tmp_path / "engine", context)
    assert record.size_bytes == (tmp_path / "engine").stat().st_size
    assert record.build_time_s is not None
    assert record.build_time_s > 0
    assert len(record.fingerprint or "") == 64
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []

    result = BACKEND.measure(job, record, tmp_path / "engine", context)
    samples = result.tables["latency_samples"]
    assert samples.schema == LATENCY_SAMPLES
    assert result.counts == {"inferences": samples.num_rows}
    starts, latencies = samples["start_ns"].to_numpy(), samples["latency_ns"].to_numpy()
    assert (np.diff(starts) >= latencies[:-1]).all(), "inferences must not overlap"
    assert starts[0] + context.t0_ns >= result.window_ns[0]
    assert starts[-1] + latencies[-1] + context.t0_ns == result.window_ns[1]
    assert result.window_ns[1] - result.window_ns[0] >= 0.05e9
    assert phases == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    assert result.effective_options == {
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "graph_optimization": "all",
        "io_binding": True,
    }
    assert {metric.metric for metric in result.metrics} == {"load_time_s"}
    assert result.metrics[0].value > 0
    assert set(result.tables) == {"latency_samples"}, "nothing untimed is mixed into the measurement"

    found = check(BACKEND, job, record, tmp_path / "engine", context).metrics
    accuracy = {metric.metric: metric.value for metric in found}
    limit = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.2, "int8_dynamic": 0.2}[precision]
    assert 0 <= accuracy["output_rel_l2"] < limit
    assert accuracy["output_cosine"] > 0.98
    assert accuracy["output_max_abs"] >= 0
    assert 50 <= accuracy["output_top1_agreement_pct"] <= 100


@pytest.mark.parametrize(
    ("kind", "precision", "realised"),
    [
        ("convnet_tiny", "fp32", "fp32"),
        ("convnet_tiny", "int8", "int8"),
        ("convnet_tiny", "int8_dynamic", "fp32+int8"),
        ("transformer_tiny", "fp32", "fp32"),
        ("transformer_tiny", "int8", "int8"),
        ("transformer_tiny", "int8_dynamic", "int8+fp32"),
    ],
)
def test_realised_precision_is_read_from_the_graph(kind, precision, realised, models, tmp_path, context):
    job = make_job(models / f"{kind}.onnx", kind, precision)
    record = BACKEND.build(job, tmp_path / "engine", context)
    assert record.realised_precision == realised
    result = BACKEND.measure(job, None, tmp_path / "engine", context)
    assert result.realised_precision == realised


@pytest.mark.parametrize("precision", WORKING)
def test_builds_are_deterministic(precision, models, tmp_path, context):
    job = make_job(models / "transformer_tiny.onnx", "transformer_tiny", precision)
    first = BACKEND.build(job, tmp_path / "a", context)
    second = BACKEND.build(job, tmp_path / "b", context)
    assert first.engine_sha256 == second.engine_sha256
    assert first.fingerprint == second.fingerprint


def test_fingerprints_tell_precisions_apart(models, tmp_path, context):
    prints = {
        BACKEND.build(
            make_job(models / "transformer_tiny.onnx", "transformer_tiny", precision), tmp_path / precision, context
        ).fingerprint
        for precision in WORKING
    }
    assert len(prints) == len(WORKING)


def test_one_engine_serves_every_batch(models, tmp_path, context):
    jobs = [make_job(models / "convnet_tiny.onnx", "convnet_tiny", "int8", batch) for batch in (1, 8)]
    assert BACKEND.engine_options(jobs[0]) == BACKEND.engine_options(jobs[1])
    shas = {BACKEND.build(job, tmp_path / f"b{i}", context).engine_sha256 for i, job in enumerate(jobs)}
    assert len(shas) == 1


def test_availability_lists_only_what_runs(models, tmp_path, context):
    found = BACKEND.availability()
    assert found.available
    assert found.version
    assert found.device
    assert {"fp32", "int8", "int8_dynamic"} <= set(found.precisions)
    if "bf16" not in found.precisions:
        job = make_job(models / "transformer_tiny.onnx", "transformer_tiny", "bf16")
        with pytest.raises(BackendError, match=r"no implementation of Add\(14\)") as caught:
            BACKEND.build(job, tmp_path / "engine", context)
        assert caught.value.code == "unsupported_precision"
        assert "transformer_tiny.onnx" in caught.value.message


def test_an_injected_delay_is_real(models, tmp_path, context):
    path = models / "convnet_tiny.onnx"
    plain = BACKEND.measure(make_job(path, "convnet_tiny"), None, path, context)
    slow = BACKEND.measure(make_job(path, "convnet_tiny", options={"inject_delay_ms": 2.0}), None, path, context)
    assert slow.tables["latency_samples"]["latency_ns"].to_numpy().min() >= 2e6
    assert plain.tables["latency_samples"]["latency_ns"].to_numpy().min() < 2e6
    assert slow.effective_options == plain.effective_options, "a planted slowdown belongs to the same series"


def test_a_relative_delay_scales_with_the_warm_up(models, context):
    path = models / "convnet_tiny.onnx"
    job = make_job(path, "convnet_tiny", options={"inject_delay_pct": 1900.0}, duration_s=0.1)
    plain = BACKEND.measure(make_job(path, "convnet_tiny"), None, path, context)
    slow = BACKEND.measure(job, None, path, context)
    medians = [np.median(run.tables["latency_samples"]["latency_ns"].to_numpy()) for run in (plain, slow)]
    assert medians[1] / medians[0] > 5


def test_progress_is_reported_between_samples(models, surroundings):
    context, _, reports = surroundings
    path = models / "convnet_tiny.onnx"
    result = BACKEND.measure(make_job(path, "convnet_tiny", duration_s=0.7), None, path, context)
    counts = [n for n, _ in reports]
    assert 1 <= len(reports) <= 3
    assert counts == sorted(counts)
    assert counts[-1] <= result.counts["inferences"]
    assert all(median_ms > 0 for _, median_ms in reports)
    assert gc.isenabled()


def test_profile_has_a_row_per_node(models, tmp_path, context):
    job = make_job(models / "transformer_tiny.onnx", "transformer_tiny")
    BACKEND.build(job, tmp_path / "engine", context)
    layers = BACKEND.profile(job, None, tmp_path / "engine", context).tables["layers"]
    assert layers.schema == LAYERS
    assert {"MatMul", "LayerNormalization"} <= set(layers["layer_type"].to_pylist())
    assert set(layers["calls"].to_pylist()) == {21}
    assert sum(layers["time_pct"].to_pylist()) == pytest.approx(100)


def test_token_ids_stay_within_the_table(tmp_path, context):
    path = write_model("transformer_ids", tmp_path / "ids.onnx")
    result = BACKEND.measure(make_job(path, "transformer_ids", batch=1), None, path, context)
    assert result.counts["inferences"] >= 1


def failing(job: Job, engine: Path, context: Context) -> BackendError:
    with pytest.raises(BackendError) as caught:
        BACKEND.measure(job, None, engine, context)
    assert caught.value.code in FAILURE_CODES
    assert caught.value.remedy
    return caught.value


def test_a_missing_model_is_named(tmp_path, context):
    job = make_job(tmp_path / "none.onnx", "convnet_tiny")
    assert failing(job, tmp_path / "none.onnx", context).code == "model_missing"
    for precision in (*WORKING, "bf16"):
        job = make_job(tmp_path / "none.onnx", "convnet_tiny", precision)
        with pytest.raises(BackendError, match=r"none\.onnx") as caught:
            BACKEND.build(job, tmp_path / "engine", context)
        assert caught.value.code == "model_missing"


@pytest.mark.parametrize("content", [b"", b"no protobuf at all " * 9, None])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_corrupt_model_says_why(content, precision, models, tmp_path, context):
    broken = tmp_path / "broken.onnx"
    whole = (models / "convnet_tiny.onnx").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    job = make_job(broken, "convnet_tiny", precision)
    with pytest.raises(BackendError, match=r"broken\.onnx") as caught:
        BACKEND.build(job, tmp_path / "engine", context)
    assert caught.value.code == "model_corrupt"
    assert "ONNXRuntimeError" not in caught.value.message
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"input": (1, 3, 16, 16)}, "cannot be 1x3x16x16"),
        ({"input": (1, 3, 32)}, "cannot be 1x3x32"),
        ({"inptu": (1, 3, 32, 32)}, "no input 'inptu'"),
        ({}, "no shape for input 'input' of dimensions \\?x3x32x32"),
        ({"input": (0, 3, 32, 32)}, "cannot be 0x3x32x32"),
    ],
)
def test_wrong_shapes_are_refused(shapes, words, models, context):
    path = models / "convnet_tiny.onnx"
    with pytest.raises(BackendError, match=words) as caught:
        BACKEND.measure(make_job(path, "convnet_tiny", shapes=shapes), None, path, context)
    assert caught.value.code == "shape_outside_profile"


def test_shapes_that_only_the_runtime_can_refuse(tmp_path, context):
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    path = one_node_model(tmp_path / "m.onnx", helper.make_node("MatMul", ["x", "w"], ["y"]), [weight], ["a", "b"])
    error = failing(make_job(path, "convnet_tiny", shapes={"x": (2, 5)}), path, context)
    assert error.code == "shape_outside_profile"
    assert "dimension mismatch" in error.message


def test_memory_that_is_not_there(tmp_path, context):
    sizes = numpy_helper.from_array(np.array([1 << 24, 1 << 24], np.int64), "s")
    path = one_node_model(tmp_path / "m.onnx", helper.make_node("Expand", ["x", "s"], ["y"]), [sizes], [1, 1])
    assert failing(make_job(path, "convnet_tiny", shapes={"x": (1, 1)}), path, context).code == "out_of_memory"


def test_an_operator_that_no_one_knows(tmp_path, context):
    path = one_node_model(tmp_path / "m.onnx", helper.make_node("Frobnicate", ["x"], ["y"]), [], [1])
    error = failing(make_job(path, "convnet_tiny", shapes={"x": (1,)}), path, context)
    assert error.code == "unsupported_operator"
    assert "Frobnicate" in error.message


def test_an_output_that_is_not_finite(tmp_path, context):
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "z")
    path = one_node_model(tmp_path / "m.onnx", helper.make_node("Div", ["x", "z"], ["y"]), [zero], [4])
    error = failing(make_job(path, "convnet_tiny", shapes={"x": (4,)}), path, context)
    assert error.code == "output_not_finite"
    assert "y: 4 of 4 values" in error.message


def test_another_provider_is_never_accepted_in_silence(models, context):
    path = models / "convnet_tiny.onnx"
    job = make_job(path, "convnet_tiny", options={"provider": "CUDAExecutionProvider"})
    error = failing(job, path, context)
    assert error.code == "provider_fallback"
    assert "CPUExecutionProvider" in error.message


def test_the_active_provider_is_asserted(models, context, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    path = models / "convnet_tiny.onnx"
    job = make_job(path, "convnet_tiny", options={"provider": "CUDAExecutionProvider"})
    error = failing(job, path, context)
    assert error.code == "provider_fallback"
    assert "onnxruntime chose CPUExecutionProvider" in error.message


def test_an_unknown_precision(models, tmp_path, context):
    job = make_job(models / "convnet_tiny.onnx", "convnet_tiny", "fp4")
    with pytest.raises(BackendError, match="'fp4'") as caught:
        BACKEND.build(job, tmp_path / "engine", context)
    assert caught.value.code == "unsupported_precision"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thread": 1}, "unknown onnxruntime option 'thread' → did you mean 'threads'"),
        ({"threads": 0}, "threads = 0 must be an integer of at least 1"),
        ({"threads": True}, "threads = True"),
        ({"graph_optimization": "full"}, "one of disable, basic, extended, all"),
        ({"inject_delay_ms": -1}, "inject_delay_ms = -1"),
        ({"accuracy": "no"}, "accuracy = 'no' must be true or false"),
        ({"quantize_ops": "Conv"}, "quantize_ops"),
        ({"provider": ""}, "provider"),
    ],
)
def test_bad_options_are_refused(options, words, models):
    with pytest.raises(PlanError) as caught:
        BACKEND.engine_options(make_job(models / "convnet_tiny.onnx", "convnet_tiny", options=options))
    assert words in str(caught.value)


def test_options_of_a_sibling_backend_are_passed_over(models):
    job = make_job(models / "convnet_tiny.onnx", "convnet_tiny", options={"protocol": "quiet"})
    assert BACKEND.engine_options(job)["provider"] == "CPUExecutionProvider"


def test_calibration_data_is_part_of_the_engine(models, tmp_path, context):
    path = models / "transformer_tiny.onnx"
    data = tmp_path / "data.npz"
    keys, shas = [], []
    for scale in (1, 5):
        np.savez(data, hidden_states=np.random.default_rng(0).standard_normal((4, 8, 32)) * np.float32(scale))
        job = make_job(path, "transformer_tiny", "int8", options={"calibration_data": str(data)})
        keys.append(BACKEND.engine_options(job))
        shas.append(BACKEND.build(job, tmp_path / f"{scale}", context).engine_sha256)
    assert keys[0] != keys[1]
    assert shas[0] != shas[1]
    assert str(tmp_path) not in str(keys), "the content counts, not where it lies"
    plain = BACKEND.engine_options(make_job(path, "transformer_tiny", "int8"))
    assert plain["calibration_seed"] == 0
    assert "calibration_data" not in plain


@pytest.mark.parametrize("precision", WORKING)
def test_weights_beside_the_model_come_into_the_engine(precision, models, tmp_path, context):
    path = tmp_path / "there" / "m.onnx"
    path.parent.mkdir()
    model = onnx.load(models / "convnet_tiny.onnx")
    onnx.save(model, str(path), save_as_external_data=True, location="m.bin", size_threshold=0)
    job = make_job(path, "convnet_tiny", precision)
    record = BACKEND.build(job, tmp_path / "engine", context)
    path.parent.rename(tmp_path / "gone")
    assert BACKEND.measure(job, record, tmp_path / "engine", context).counts["inferences"] >= 1
