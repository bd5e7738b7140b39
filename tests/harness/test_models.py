"""Generated models: deterministic, valid, finite, sized as promised, written whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewatch_db.errors import PlanError
from enginewatch_harness.models import GENERATORS, find_generator, input_shapes, write_model

TINY = ("convnet_tiny", "transformer_tiny")


def outputs(path: Path, kind: str, batch: int, seed: int = 0) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    feeds = {}
    for item in session.get_inputs():
        shape = input_shapes(kind, batch)[item.name]
        floats = "float" in item.type
        feeds[item.name] = random.standard_normal(shape).astype(np.float32) if floats else random.integers(0, 99, shape)
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_every_kind_is_valid_onnx_of_the_promised_shape(kind, tmp_path):
    path = write_model(kind, tmp_path / "m.onnx")
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    declared = {
        item.name: [dim.dim_param or dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in model.graph.input
    }
    assert declared == {name: ["batch", *dims] for name, dims in GENERATORS[kind].inputs.items()}
    assert GENERATORS[kind].description.endswith(".")


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_outputs_are_finite_vary_and_stay_small(kind, tmp_path):
    result = outputs(write_model(kind, tmp_path / "m.onnx"), kind, batch=3)
    assert result.shape[0] == 3
    assert np.isfinite(result).all()
    assert 0.05 < result.std() < 10
    assert np.abs(result).max() < 100
    assert not np.allclose(result[0], result[1])


@pytest.mark.parametrize("kind", TINY)
def test_bytes_depend_on_the_seed_alone(kind, tmp_path):
    first = write_model(kind, tmp_path / "a.onnx", seed=7).read_bytes()
    assert write_model(kind, tmp_path / "b.onnx", seed=7).read_bytes() == first
    assert write_model(kind, tmp_path / "c.onnx", seed=8).read_bytes() != first


def test_bytes_are_the_same_on_every_machine(tmp_path):
    digest = hashlib.sha256(write_model("transformer_tiny", tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert digest.startswith("793b780705bb8324")


def test_batch_of_one_is_a_row_of_a_larger_batch(tmp_path):
    path = write_model("convnet_tiny", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(3).standard_normal(input_shapes("convnet_tiny", 4)["input"]).astype(np.float32)
    whole, one = session.run(None, {"input": x})[0], session.run(None, {"input": x[2:3]})[0]
    np.testing.assert_allclose(whole[2:3], one, rtol=1e-4, atol=1e-5)


def test_folding_removes_batch_norm(tmp_path):
    def operators(kind):
        return {node.op_type for node in onnx.load(str(write_model(kind, tmp_path / f"{kind}.onnx"))).graph.node}

    assert operators("convnet") - operators("convnet_folded") == {"BatchNormalization"}


def test_unknown_kind_names_the_nearest():
    with pytest.raises(PlanError, match="unknown model generator 'convnt'") as caught:
        find_generator("convnt")
    assert "convnet" in (caught.value.remedy or "")


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "m.onnx"
    target.mkdir()
    with pytest.raises(OSError, match=r"m\.onnx"):
        write_model("convnet_tiny", target)
    assert [item.name for item in tmp_path.iterdir()] == ["m.onnx"]
