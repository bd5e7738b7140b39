"""Precision in graphs: each one valid and sane against fp32, kept by what it depends on, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from enginewatch_db.errors import BackendError, NotAvailableError, PlanError
from enginewatch_harness.graph_precision import (
    Calibration,
    graph_identity,
    graph_tool,
    parse_calibration,
    prepare,
    prepare_graph,
)
from enginewatch_harness.graph_precision.blocks import quantize_fp4, quantize_int4
from enginewatch_harness.graph_precision.load import load_model, model_sha256, save_model
from enginewatch_harness.graph_precision.modelopt import modelopt_version
from enginewatch_harness.graph_precision.opset import opset_of
from enginewatch_harness.graph_precision.order import sort_nodes
from enginewatch_harness.models import input_shapes, write_model

KINDS = ("convnet_tiny", "transformer_tiny")
BUILTIN = Calibration(tool="builtin")
LIMITS = {"fp16": 2e-3, "bf16": 2e-2, "int8": 0.05, "fp8": 0.15, "int4": 0.2, "fp4": 0.25}
"""Relative L2 distance from fp32 that random weights allow."""

MARKS = {
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "fp8": TensorProto.FLOAT8E4M3FN,
    "int4": TensorProto.INT4,
    "fp4": TensorProto.FLOAT4E2M1,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: write_model(kind, folder / f"{kind}.onnx") for kind in KINDS}


def make(models, tmp_path, precision, kind="transformer_tiny", calibration=BUILTIN, batch=2, cache="cache"):
    return prepare_graph(
        models[kind],
        precision,
        shapes=input_shapes(kind, batch),
        calibration=calibration,
        cache_dir=tmp_path / cache if cache else None,
        work_dir=tmp_path / "work",
    )


def answers(path: Path, kind: str, by: str) -> np.ndarray:
    inputs = {
        name: np.random.default_rng(7).standard_normal(dims).astype(np.float32)
        for name, dims in input_shapes(kind, 2).items()
    }
    if by == "reference":
        return np.asarray(ReferenceEvaluator(str(path)).run(None, inputs)[0], np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options).run(None, inputs)[0]


def distance(path: Path, source: Path, kind: str, precision: str) -> float:
    want = answers(source, kind, "onnxruntime")
    # ONNX Runtime's CPU provider has no bfloat16 arithmetic and no FP4.
    got = answers(path, kind, "reference" if precision in ("bf16", "fp4") else "onnxruntime")
    assert got.shape == want.shape
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", LIMITS)
def test_each_precision_is_in_the_graph_and_near_fp32(precision, kind, models, tmp_path):
    made = make(models, tmp_path, precision, kind)
    model = onnx.load(made.path)
    onnx.checker.check_model(model, full_check=True)
    assert MARKS[precision] in {tensor.data_type for tensor in model.graph.initializer}
    kinds = [item.type.tensor_type.elem_type for item in (*model.graph.input, *model.graph.output)]
    assert set(kinds) == {TensorProto.FLOAT}, "what goes in and comes out stays comparable"
    assert 1e-6 < distance(made.path, models[kind], kind, precision) < LIMITS[precision]
    assert made.sha256 == model_sha256(made.path)
    assert (made.tool, made.tool_version) == dataclasses.astuple(graph_tool(precision, BUILTIN))


@pytest.mark.parametrize("precision", ["int8", "fp8", "int4", "fp4"])
def test_the_rest_of_a_quantised_graph_is_as_asked_for(precision, models, tmp_path):
    found = {}
    for rest in ("fp16", "fp32"):
        made = make(models, tmp_path, precision, calibration=dataclasses.replace(BUILTIN, rest=rest))
        assert f"what is not quantised runs in {rest}" in made.notes
        found[rest] = {
            item.name: item.data_type for item in onnx.load(made.path).graph.initializer if "norm1_scale" in item.name
        }
        assert distance(made.path, models["transformer_tiny"], "transformer_tiny", precision) < LIMITS[precision]
    assert set(found["fp16"].values()) == {TensorProto.FLOAT16}
    assert set(found["fp32"].values()) == {TensorProto.FLOAT}


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_fp32_is_the_file_itself(precision, models, tmp_path):
    made = make(models, tmp_path, precision)
    assert made.path == models["transformer_tiny"]
    assert made.tool == "source"
    assert not (tmp_path / "cache").exists()
    assert graph_identity(precision, BUILTIN, {}) == {}


def test_int8_is_as_tensorrt_reads_it(models, tmp_path):
    graph = onnx.load(make(models, tmp_path, "int8", "convnet_tiny").path).graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert not any(weights[node.input[2]].any() for node in pairs), "symmetric"
    assert {weights[node.input[2]].dtype for node in pairs} == {np.dtype(np.int8)}, "no int32 biases"


def test_int8_keeps_the_operator_set_that_tensorrt_8_6_reads(models, tmp_path):
    """Raised to 18, ReduceMean takes its axes as an input; 8.6 overlooks it (seen on an H200: "GEMM must have 2D")."""
    graph = onnx.load(make(models, tmp_path, "int8", calibration=replace(BUILTIN, rest="fp32")).path)
    assert opset_of(graph) == opset_of(onnx.load(models["transformer_tiny"])) == 17
    means = [node for node in graph.graph.node if node.op_type == "ReduceMean"]
    assert means
    assert all(any(item.name == "axes" for item in node.attribute) for node in means)


def test_fp8_steps_put_the_largest_weight_at_448(models, tmp_path):
    calibration = dataclasses.replace(BUILTIN, rest="fp32", per_channel=False)
    graph = onnx.load(make(models, tmp_path, "fp8", "convnet_tiny", calibration).path).graph
    weights = {item.name: item for item in graph.initializer}
    head = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "head_weight")
    values, step = (numpy_helper.to_array(weights[name]) for name in head.input[:2])
    assert np.abs(values).max() / step == pytest.approx(448, rel=1e-3)


def test_int4_blocks_have_a_scale_each(models, tmp_path):
    calibration = dataclasses.replace(BUILTIN, rest="fp32", block_size=16)
    graph = onnx.load(make(models, tmp_path, "int4", calibration=calibration).path).graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    source = {
        item.name: numpy_helper.to_array(item) for item in onnx.load(models["transformer_tiny"]).graph.initializer
    }
    node = next(node for node in graph.node if node.name.startswith("layer0_up_weight"))
    values, scales = (weights[name].astype(np.float32) for name in node.input)
    assert scales.shape == (2, 64)
    error = np.abs(values * np.repeat(scales, 16, 0) - source["layer0_up_weight"])
    assert (error <= np.repeat(scales, 16, 0) * 0.5001).all(), "rounded to the nearest"
    assert np.abs(values.reshape(2, 16, 64)).max(axis=1).min() == 7, "each block uses its range"
    assert "layer0_up_weight" not in weights, "the fp32 weight is gone"


def test_fp4_scales_use_the_range_of_fp8(models, tmp_path):
    graph = onnx.load(make(models, tmp_path, "fp4", calibration=dataclasses.replace(BUILTIN, rest="fp16")).path).graph
    weights = {item.name: item for item in graph.initializer}
    step = next(node for node in graph.node if node.name.endswith("_step"))
    scales, tensor_scale = (weights[name] for name in step.input)
    assert tensor_scale.data_type == TensorProto.FLOAT, "too small for fp16"
    assert numpy_helper.to_array(scales).astype(np.float32).max() == 448


def test_weights_that_no_block_fits_stay_and_are_named(tmp_path):
    weights = {"wide": (24, 4), "fits": (4, 48)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "wide"], ["h"], name="first"),
            helper.make_node("Gemm", ["h", "fits_t"], ["g"], name="second", transB=0),
            helper.make_node("Gemm", ["g", "fits"], ["y"], name="third", transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            *(numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in weights.items()),
            numpy_helper.from_array(np.zeros((4, 48), np.float32), "fits_t"),
        ],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    for precision in ("int4", "fp4"):
        made = prepare_graph(
            path, precision, shapes={}, calibration=BUILTIN, cache_dir=None, work_dir=tmp_path / precision
        )
        assert made.notes[0].startswith("1 weights in blocks")
        assert "left as they are: first (24 wide), second (4 wide)" in made.notes[1]
        kept = {item.name for item in onnx.load(made.path).graph.initializer}
        assert {"wide", "fits_t"} <= kept
        assert "fits" not in kept


def test_one_graph_serves_every_batch_and_is_made_once(models, tmp_path, monkeypatch):
    first = make(models, tmp_path, "int8")
    monkeypatch.setattr(prepare, "check_graph", lambda *_: pytest.fail("made again"))
    assert make(models, tmp_path, "int8", batch=8) == first
    assert [path.name for path in (tmp_path / "cache" / "graphs").iterdir()] == [first.path.parent.name]


def test_the_key_holds_what_a_graph_depends_on(models, tmp_path):
    data = tmp_path / "d.npz"
    np.savez(data, hidden_states=np.ones((3, 8, 32), np.float32))
    changes = [
        {},
        {"seed": 1000},
        {"samples": 2},
        {"per_channel": False},
        {"operators": ("MatMul",)},
        {"rest": "fp32"},
        {"data": data},
    ]
    made = [make(models, tmp_path, "int8", calibration=dataclasses.replace(BUILTIN, **item)) for item in changes]
    assert len({item.path for item in made}) == len(changes)
    assert len({item.sha256 for item in made}) == len(changes)
    identities = [
        json.dumps(graph_identity("int8", dataclasses.replace(BUILTIN, **item), input_shapes("transformer_tiny", 2)))
        for item in changes
    ]
    assert len(set(identities)) == len(changes)
    assert str(tmp_path) not in "".join(identities)


def test_the_key_of_fp16_and_int4_holds_what_these_depend_on(models, tmp_path):
    changes = [{}, {"seed": 1000}, {"samples": 2}, {"rest": "fp32"}]
    unmoved = [make(models, tmp_path, "fp16", calibration=dataclasses.replace(BUILTIN, **item)) for item in changes]
    assert len({item.path for item in unmoved}) == 1, "fp16 is not calibrated"
    blocks = [make(models, tmp_path, "int4", calibration=dataclasses.replace(BUILTIN, block_size=n)) for n in (16, 32)]
    assert blocks[0].sha256 != blocks[1].sha256


@pytest.mark.parametrize("damage", ["cut", "empty", "meta", "no meta"])
def test_a_damaged_graph_is_made_again(damage, models, tmp_path):
    first = make(models, tmp_path, "fp16")
    whole, meta = first.path.read_bytes(), first.path.parent / "graph.json"
    if damage == "meta":
        meta.write_text("{")
    elif damage == "no meta":
        meta.unlink()
    else:
        first.path.write_bytes(whole[:-9] if damage == "cut" else b"")
    assert make(models, tmp_path, "fp16") == first
    assert first.path.read_bytes() == whole
    assert meta.is_file()


def test_two_at_once_end_with_one_graph(models, tmp_path, monkeypatch):
    meet = threading.Barrier(2)
    real = prepare.check_graph

    def both(*given):
        meet.wait(30)
        return real(*given)

    monkeypatch.setattr(prepare, "check_graph", both)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(make(models, tmp_path, "bf16"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len(list((tmp_path / "cache" / "graphs").iterdir())) == 1, "no scratch stays"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackendError("no", code="build_failed"), "build_failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (ValueError("Message exceeds 2GB"), "crashed"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_a_failure_has_a_code_and_leaves_nothing(error, code, models, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(prepare, "check_graph", fail)
    with pytest.raises(BackendError) as caught:
        make(models, tmp_path, "fp16")
    assert caught.value.code == code
    assert list((tmp_path / "cache" / "graphs").iterdir()) == []


def test_without_a_cache_the_graph_lies_in_the_work_folder(models, tmp_path):
    made = make(models, tmp_path, "fp16", cache=None)
    assert made.path.is_relative_to(tmp_path / "work")


def test_an_invalid_graph_is_refused(models, tmp_path, monkeypatch):
    from enginewatch_harness.graph_precision import recipes

    monkeypatch.setattr(recipes, "raise_opset", lambda model, *_: model)
    with pytest.raises(BackendError, match=r"convnet_tiny\.onnx in bf16 is not valid ONNX: .*bfloat16") as caught:
        make(models, tmp_path, "bf16", "convnet_tiny")
    assert caught.value.code == "build_failed"


def test_a_source_with_plugins_is_converted_and_says_so(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("MyPlugin", ["x"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    path = tmp_path / "plugin.onnx"
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    made = prepare_graph(path, "fp16", shapes={}, calibration=BUILTIN, cache_dir=None, work_dir=tmp_path / "w")
    assert "plugin.onnx has operators outside of ONNX" in made.notes[0]
    with pytest.raises(BackendError, match="bf16 needs operator set 22") as caught:
        prepare_graph(path, "bf16", shapes={}, calibration=BUILTIN, cache_dir=None, work_dir=tmp_path / "w")
    assert caught.value.code == "unsupported_precision"
    assert "opset_version=22" in caught.value.remedy


def test_weights_beside_the_file_are_part_of_the_model(models, tmp_path):
    model = load_model(models["transformer_tiny"])
    onnx.save(model, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.bin", size_threshold=0)
    source = {"transformer_tiny": tmp_path / "m.onnx"}
    first = make(source, tmp_path, "int4")
    weights = bytearray((tmp_path / "m.bin").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "m.bin").write_bytes(weights)
    assert make(source, tmp_path, "int4").path != first.path
    (tmp_path / "m.bin").unlink()
    with pytest.raises(BackendError, match=r"m\.bin, which does not exist") as caught:
        make(source, tmp_path, "int4")
    assert caught.value.code == "model_missing"


def test_large_models_keep_their_weights_beside_them(models, tmp_path, monkeypatch):
    from enginewatch_harness.graph_precision import load

    monkeypatch.setattr(load, "_PROTOBUF_LIMIT_BYTES", 10_000)
    made = make(models, tmp_path, "fp16")
    assert (made.path.parent / "model.onnx.data").is_file()
    assert make(models, tmp_path, "fp16") == made
    assert distance(made.path, models["transformer_tiny"], "transformer_tiny", "fp16") < LIMITS["fp16"]
    (made.path.parent / "model.onnx.data").write_bytes(b"cut")
    assert make(models, tmp_path, "fp16") == made, "made again"
    assert make(models, tmp_path, "int8").path.is_file(), "onnxruntime's quantiser takes it too"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8", "int4", "fp4"])
@pytest.mark.parametrize("content", [None, b"no protobuf " * 9])
def test_a_source_that_cannot_be_read(content, precision, tmp_path):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=r"m\.onnx") as caught:
        prepare_graph(path, precision, shapes={}, calibration=BUILTIN, cache_dir=None, work_dir=tmp_path)
    assert caught.value.code == ("model_missing" if content is None else "model_corrupt")


def test_a_precision_that_nobody_makes(models, tmp_path):
    with pytest.raises(BackendError, match="'int8_dynamic' into a graph; known: fp32, tf32, fp16") as caught:
        make(models, tmp_path, "int8_dynamic")
    assert caught.value.code == "unsupported_precision"


def test_calibration_on_data_sees_the_data(models, tmp_path):
    data = tmp_path / "d.npz"
    np.savez(data, hidden_states=100 * np.ones((3, 8, 32), np.float32))
    calibration = dataclasses.replace(BUILTIN, data=data, rest="fp32")
    graph = onnx.load(make(models, tmp_path, "int8", calibration=calibration).path).graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pair = next(node for node in graph.node if node.op_type == "QuantizeLinear" and "norm1" in node.input[0])
    assert weights[pair.input[1]].size == 1
    np.savez(data, hidden_states=np.ones((3, 8, 5), np.float32))
    with pytest.raises(BackendError, match="has shape 3x8x5, the case takes 1x8x32"):
        make(models, tmp_path, "int8", calibration=calibration)


def test_options_of_a_plan(tmp_path):
    data = tmp_path / "d.npz"
    np.savez(data, x=np.ones(3))
    found = parse_calibration(
        {
            "calibration_samples": 4,
            "calibration_data": str(data),
            "quantize_block": 64,
            "quantize_rest": "fp32",
            "graph_tool": "builtin",
            "quantize_ops": ["MatMul"],
            "threads": 3,
        }
    )
    assert found == Calibration(samples=4, data=data, block_size=64, rest="fp32", tool="builtin", operators=("MatMul",))
    assert parse_calibration({}) == Calibration()
    for options in (
        {"quantize_rest": "int3"},
        {"graph_tool": "x"},
        {"calibration_data": "/nowhere"},
        {"quantize_block": 8},
    ):
        with pytest.raises(PlanError, match=next(iter(options))):
            parse_calibration(options)


def test_modelopt_that_is_absent_is_said(models, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "modelopt_version", lambda: None)
    assert graph_tool("fp16", Calibration()).name == "onnxruntime"
    with pytest.raises(NotAvailableError, match="ModelOpt is not installed") as caught:
        make(models, tmp_path, "fp16", calibration=Calibration(tool="modelopt"))
    assert "enginewatch[modelopt]" in caught.value.remedy
    assert graph_tool("fp4", Calibration(tool="modelopt")).name == "enginewatch", "what ModelOpt cannot do"


IN_ITS_OWN_PROCESS = """
import dataclasses, json, sys
from pathlib import Path
from enginewatch_harness.graph_precision.opset import opset_of
from enginewatch_harness.graph_precision import Calibration, prepare_graph
source, folder, shapes = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for precision in sys.argv[4:]:
    made = prepare_graph(
        source, precision, shapes={name: tuple(dims) for name, dims in shapes.items()},
        calibration=Calibration(tool="modelopt"), cache_dir=folder, work_dir=folder,
    )
    (folder / f"{precision}.json").write_text(json.dumps(dataclasses.asdict(made), default=str))
"""


@pytest.mark.skipif(modelopt_version() is None, reason="pip install 'enginewatch[modelopt]' to test it")
@pytest.mark.parametrize("kind", KINDS)
def test_modelopt_where_it_is_installed(kind, models, tmp_path):
    # ModelOpt alters onnxruntime's quantiser for the rest of a process.
    precisions = ("fp16", "bf16", "int8", "fp8", "int4")
    shapes = json.dumps(input_shapes(kind, 2))
    command = [sys.executable, "-c", IN_ITS_OWN_PROCESS, str(models[kind]), str(tmp_path), shapes, *precisions]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    for precision in precisions:
        made = json.loads((tmp_path / f"{precision}.json").read_text())
        assert (made["tool"], made["tool_version"]) == ("modelopt", modelopt_version())
        onnx.checker.check_model(made["path"], full_check=True)
        assert MARKS[precision] in {tensor.data_type for tensor in onnx.load(made["path"]).graph.initializer}
        assert distance(Path(made["path"]), models[kind], kind, precision) < LIMITS[precision]
        assert graph_identity(precision, Calibration(), {}) != graph_identity(precision, BUILTIN, {})


weights = st.integers(1, 3).flatmap(
    lambda blocks: arrays.arrays(np.float32, (16 * blocks, 3), elements=st.floats(-100, 100, width=32))
)


@settings(max_examples=40, deadline=None)
@given(weights, st.booleans())
def test_blocks_lose_at_most_half_a_step(values, flipped):
    axis = 1 if flipped else 0
    weight = np.ascontiguousarray(values.T) if flipped else values
    four = quantize_int4(weight, axis=axis, block_size=16)
    steps = np.repeat(four.scales, 16, axis)
    assert (np.abs(four.values.astype(np.float32) * steps - weight) <= steps * 0.5001).all()
    tiny = quantize_fp4(weight, axis=axis)
    steps = np.repeat(tiny.scales.astype(np.float32) * tiny.tensor_scale, 16, axis)
    found = tiny.values.astype(np.float32) * steps
    # E2M1's widest gap is 4 to 6, so half of it is one step; the E4M3 scale may be 1/16 too small, or round to zero.
    largest = np.repeat(np.abs(weight.reshape(-1, 16) if flipped else weight.T.reshape(-1, 16)).max(1), 16)
    largest = largest.reshape(weight.shape) if flipped else largest.reshape(weight.T.shape).T
    assert (np.abs(found - weight) <= steps + largest / 14 + float(tiny.tensor_scale) * 6 * 2**-9).all()
    assert (np.sign(found) * np.sign(weight) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(6)))
def test_nodes_are_sorted_whatever_their_order(order):
    chain = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(5)]
    nodes = [*chain, helper.make_node("Add", ["t1", "t5"], ["out"])]
    graph = helper.make_graph([nodes[i] for i in order], "g", [], [])
    sort_nodes(graph)
    seen = {"t0"}
    for node in graph.node:
        assert set(node.input) <= seen
        seen.update(node.output)
    assert len(graph.node) == 6
    before = graph.SerializeToString()
    sort_nodes(graph)
    assert graph.SerializeToString() == before, "what is sorted stays as it is"


def test_a_node_waits_for_what_its_sub_graph_reads():
    inner = helper.make_graph([helper.make_node("Relu", ["late"], ["r"])], "i", [], [])
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
            helper.make_node("Relu", ["x"], ["late"]),
        ],
        "g",
        [],
        [],
    )
    sort_nodes(graph)
    assert [node.op_type for node in graph.node] == ["Relu", "If"]


def test_a_cycle_is_left_to_the_checker():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["a"])], "g", [], []
    )
    sort_nodes(graph)
    assert [node.output[0] for node in graph.node] == ["b", "a"]


def test_saving_keeps_a_model_as_it_is(models, tmp_path):
    model = load_model(models["convnet_tiny"])
    save_model(model, tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx") == model
