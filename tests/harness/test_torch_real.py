"""The Torch backends run for real, where torch is installed: conversion against ONNX Runtime, measuring, formats."""

from __future__ import annotations

import dataclasses
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="needs torch (extra `torch`)")

from enginewatch_db.errors import BackendError  # noqa: E402
from enginewatch_db.model import Phase  # noqa: E402
from enginewatch_harness.accuracy.check import check  # noqa: E402
from enginewatch_harness.backends.base import Context, Job  # noqa: E402
from enginewatch_harness.backends.torch_compile import TorchCompileBackend  # noqa: E402
from enginewatch_harness.backends.torch_convert import convert_graph  # noqa: E402
from enginewatch_harness.backends.torch_eager import TorchBackend  # noqa: E402
from enginewatch_harness.models import input_shapes, write_model  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def weights(**arrays):
    return [numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()]


def f32(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(kind, *inputs, outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), name=kind.lower(), **attributes)


ONE_NODE = {
    "conv strided": (
        node("Conv", "x", "w", "b", strides=[2, 2], pads=[1, 1, 1, 1]),
        [2, 3, 9, 9],
        {"w": f32(4, 3, 3, 3), "b": f32(4)},
    ),
    "conv unequal pads": (node("Conv", "x", "w", pads=[0, 1, 2, 0]), [1, 3, 8, 8], {"w": f32(4, 3, 3, 3)}),
    "conv same": (node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2]), [1, 3, 9, 8], {"w": f32(4, 3, 3, 3)}),
    "conv grouped": (node("Conv", "x", "w", group=4, dilations=[2, 2]), [1, 4, 9, 9], {"w": f32(4, 1, 3, 3)}),
    "conv transposed": (
        node("ConvTranspose", "x", "w", strides=[2, 2], pads=[1, 1, 1, 1]),
        [1, 3, 5, 5],
        {"w": f32(3, 4, 3, 3)},
    ),
    "batch norm": (
        node("BatchNormalization", "x", "s", "b", "m", "v"),
        [2, 3, 4, 4],
        {"s": f32(3), "b": f32(3), "m": f32(3), "v": abs(f32(3)) + 1},
    ),
    "layer norm": (node("LayerNormalization", "x", "s", "b", axis=-2), [2, 3, 4], {"s": f32(3, 4), "b": f32(3, 4)}),
    "instance norm": (node("InstanceNormalization", "x", "s", "b"), [2, 3, 5, 5], {"s": f32(3), "b": f32(3)}),
    "max pool": (node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), [1, 3, 9, 9], {}),
    "max pool unequal": (node("MaxPool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), [1, 3, 5, 5], {}),
    "average pool": (node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), [1, 3, 7, 7], {}),
    "global pool": (node("GlobalAveragePool", "x"), [2, 3, 4, 5], {}),
    "gemm": (node("Gemm", "x", "w", "b", transB=1), [3, 4], {"w": f32(5, 4), "b": f32(5)}),
    "gemm scaled": (
        node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0, transA=1),
        [4, 3],
        {"w": f32(4, 5), "b": f32(3, 1)},
    ),
    "softmax": (node("Softmax", "x", axis=1), [2, 3, 4], {}),
    "reduce mean": (node("ReduceMean", "x", axes=[-1], keepdims=0), [2, 3, 4], {}),
    "reduce all": (node("ReduceMax", "x"), [2, 3, 4], {}),
    "reduce sum by input": (node("ReduceSum", "x", "a", keepdims=0), [2, 3, 4], {"a": np.array([0, 2])}),
    "reshape": (node("Reshape", "x", "s"), [2, 3, 4], {"s": np.array([0, -1])}),
    "flatten": (node("Flatten", "x", axis=2), [2, 3, 4], {}),
    "squeeze": (node("Squeeze", "x", "a"), [2, 1, 4, 1], {"a": np.array([1, -1])}),
    "squeeze all": (node("Squeeze", "x"), [2, 1, 4, 1], {}),
    "unsqueeze": (node("Unsqueeze", "x", "a"), [2, 4], {"a": np.array([0, -1])}),
    "gather negative": (node("Gather", "x", "i", axis=1), [2, 5, 3], {"i": np.array([[-1, 0], [2, -2]])}),
    "gather scalar": (node("Gather", "x", "i", axis=1), [2, 5, 3], {"i": np.array(-2)}),
    "concat": (node("Concat", "x", "w", axis=1), [2, 3], {"w": f32(2, 4)}),
    "slice": (
        node("Slice", "x", "s", "e", "a", "t"),
        [4, 9],
        {"s": np.array([1, -1]), "e": np.array([4, -10]), "a": np.array([0, 1]), "t": np.array([2, -3])},
    ),
    "slice to the end": (node("Slice", "x", "s", "e"), [4, 9], {"s": np.array([1, 2]), "e": np.array([2**62, 2**62])}),
    "expand": (node("Expand", "x", "s"), [3, 1], {"s": np.array([2, 1, 4])}),
    "pad": (node("Pad", "x", "p", "v"), [2, 3], {"p": np.array([0, 1, 2, 0]), "v": np.array(0.5, np.float32)}),
    "pad edge": (node("Pad", "x", "p", mode="edge"), [1, 2, 3, 3], {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "tile": (node("Tile", "x", "r"), [2, 3], {"r": np.array([2, 3])}),
    "clip": (node("Clip", "x", "l"), [2, 3], {"l": np.array(0.0, np.float32)}),
    "leaky": (node("LeakyRelu", "x", alpha=0.2), [2, 3], {}),
    "hard sigmoid": (node("HardSigmoid", "x"), [2, 3], {}),
    "where": (node("Where", "c", "x", "w"), [2, 3], {"c": np.array([True, False, True]), "w": f32(2, 3)}),
    "pow": (node("Pow", "x", "e"), [2, 3], {"e": np.array(2.0, np.float32)}),
    "div": (node("Div", "x", "w"), [2, 3], {"w": f32(3) + 4}),
    "max": (node("Max", "x", "w"), [2, 3], {"w": f32(3)}),
    "resize nearest": (
        node("Resize", "x", "", "s", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        [1, 2, 3, 3],
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "resize linear": (
        node("Resize", "x", "", "s", mode="linear", coordinate_transformation_mode="half_pixel"),
        [1, 2, 3, 3],
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "einsum": (node("Einsum", "x", "w", equation="bij,bkj->bik"), [2, 3, 4], {"w": f32(2, 5, 4)}),
    "argmax": (node("ArgMax", "x", axis=1, keepdims=0), [2, 5], {}),
    "transpose": (node("Transpose", "x", perm=[2, 0, 1]), [2, 3, 4], {}),
    "conv 1d": (node("Conv", "x", "w", pads=[1, 1]), [2, 3, 9], {"w": f32(4, 3, 3)}),
}


def model_of(nodes, dims, constants, outputs=("y",)):
    kind = INT64 if nodes[-1].op_type == "ArgMax" else FLOAT
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", FLOAT, dims)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        weights(**constants),
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def both(model, dims, values=None):
    values = f32(*dims, seed=5) if values is None else values
    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = session.run(None, {"x": values})
    module, inputs, outputs = convert_graph(torch, model, {"x": tuple(dims)}, torch.float32)
    assert inputs == ("x",)
    with torch.inference_mode():
        found = module(torch.from_numpy(values))
    return [item.numpy() for item in found], wanted, outputs


@pytest.mark.parametrize("name", ONE_NODE)
def test_an_operator_gives_what_onnx_runtime_gives(name):
    one, dims, constants = ONE_NODE[name]
    model = model_of([one], dims, constants)
    found, wanted, _ = both(model, dims)
    assert found[0].shape == wanted[0].shape
    np.testing.assert_allclose(found[0], wanted[0], rtol=2e-5, atol=2e-5)


def test_shapes_that_a_graph_computes_are_settled_at_conversion():
    nodes = [
        node("Shape", "x", outputs=("shape",)),
        node("Gather", "shape", "zero", outputs=("batch",)),
        node("Unsqueeze", "batch", "axis", outputs=("row",)),
        node("Concat", "row", "rest", outputs=("wanted",), axis=0),
        node("Reshape", "x", "wanted"),
    ]
    constants = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    model = model_of(nodes, [2, 3, 4], constants)
    found, wanted, _ = both(model, [2, 3, 4])
    np.testing.assert_array_equal(found[0], wanted[0])
    module, _, _ = convert_graph(torch, model, {"x": (2, 3, 4)}, torch.float32)
    assert [item.op for item in module.graph.nodes] == ["placeholder", "call_function", "output"]


def test_several_outputs_keep_their_names_and_order():
    nodes = [node("Split", "x", outputs=("a", "b"), axis=1), node("Relu", "b", outputs=("c",))]
    found, wanted, names = both(model_of(nodes, [2, 4], {}, outputs=("c", "a")), [2, 4])
    assert names == ("c", "a")
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (node("NonZero", "x"), "NonZero"),
        (helper.make_node("Magic", ["x"], ["y"], name="m", domain="acme"), "acme.Magic"),
    ],
)
def test_an_unknown_operator_is_named(one, word):
    with pytest.raises(BackendError, match=word) as caught:
        convert_graph(torch, model_of([one], [2, 3], {}), {"x": (2, 3)}, torch.float32)
    assert caught.value.code == "unsupported_operator"


def test_a_shape_that_only_running_tells_is_refused():
    model = model_of([node("Cast", "x", outputs=("s",), to=INT64), node("Reshape", "w", "s")], [2], {"w": f32(2, 3)})
    with pytest.raises(BackendError, match="only known at run time"):
        convert_graph(torch, model, {"x": (2,)}, torch.float32)


def job_of(path: Path, shapes, **changes) -> Job:
    job = Job(
        case_key="case",
        workload="w",
        model_path=path,
        model_name="m",
        precision="fp32",
        warmup_s=0.01,
        duration_s=0.05,
        seed=3,
        shapes=shapes,
        options={"torch_device": "cpu"},
    )
    return dataclasses.replace(job, **changes)


@pytest.fixture
def surroundings(tmp_path):
    phases: list[Phase] = []
    context = Context(
        work_dir=tmp_path / "work",
        t0_ns=time.monotonic_ns(),
        enter=phases.append,
        progress=lambda *_: None,
        cache_dir=tmp_path / "cache",
    )
    return context, phases


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_tiny"])
def test_generated_models_are_measured_profiled_and_right(tmp_path, surroundings, kind, precision):
    context, phases = surroundings
    path = tmp_path / f"{kind}.onnx"
    write_model(kind, path)
    tool, job = TorchBackend(), job_of(path, input_shapes(kind, 2), precision=precision)
    found = tool.measure(job, None, None, context)
    assert phases == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN]
    assert found.counts["inferences"] == found.tables["latency_samples"].num_rows > 0
    assert found.realised_precision == precision
    assert found.effective_options["torch_device"] == "cpu"
    assert found.tables["latency_samples"].column("gpu_ns").null_count == found.counts["inferences"]
    accuracy = {item.metric: item.value for item in check(tool, job, None, None, context).metrics}
    assert accuracy["output_rel_l2"] < {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}[precision]
    layers = tool.profile(job, None, None, context).tables["layers"]
    assert sum(layers.column("time_pct").to_pylist()) == pytest.approx(100)


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_exported_and_scripted_files_are_measured(tmp_path, surroundings, kind):
    path = tmp_path / f"model.{kind}"
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    example = (torch.ones(2, 4),)
    if kind == "pt2":
        torch.export.save(torch.export.export(module, example), str(path))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript, and users have such files
            torch.jit.save(torch.jit.trace(module, example), str(path))
    tool, job = TorchBackend(), job_of(path, {"input": (2, 4)})
    found = tool.measure(job, None, None, surroundings[0])
    assert found.notes[0] == ("model source: torch.export" if kind == "pt2" else "model source: torchscript")
    values = {"input": f32(2, 4)}
    [answer] = tool.infer(job, None, None, values, surroundings[0]).values()
    np.testing.assert_allclose(answer, module(torch.from_numpy(values["input"])).detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("a.pt2", b"no", "model_corrupt"), ("a.pt", b"no", "model_corrupt"), ("a.onnx", None, "model_missing")],
)
def test_files_that_cannot_be_read_are_told(tmp_path, surroundings, name, content, code):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendError) as caught:
        TorchBackend().measure(job_of(path, {"x": (1,)}), None, None, surroundings[0])
    assert caught.value.code == code


def test_what_cannot_run_here_is_told(tmp_path, surroundings):
    path = tmp_path / "m.onnx"
    write_model("convnet_tiny", path)
    job = job_of(path, input_shapes("convnet_tiny", 1))
    with pytest.raises(BackendError) as caught:
        TorchBackend().measure(dataclasses.replace(job, precision="int8"), None, None, surroundings[0])
    assert caught.value.code == "unsupported_precision"
    if not torch.cuda.is_available():
        wanted = dataclasses.replace(job, options={"torch_device": "cuda"})
        with pytest.raises(BackendError) as caught:
            TorchBackend().measure(wanted, None, None, surroundings[0])
        assert caught.value.code == "not_available"


def test_compiling_is_timed_counted_and_right(tmp_path, surroundings):
    path = tmp_path / "m.onnx"
    onnx.save(model_of([node("Relu", "x", outputs=("r",)), node("Exp", "r")], [2, 3], {}), str(path))
    tool, job = TorchCompileBackend(), job_of(path, {"x": (2, 3)})
    found = tool.measure(job, None, None, surroundings[0])
    metrics = {item.metric: item for item in found.metrics}
    assert metrics["compile_graphs"].value == 1
    assert metrics["compile_graph_breaks"].value == 0
    assert metrics["compile_time_s"].value > 0
    assert found.effective_options["compile_mode"] == "default"
    assert not found.reasons
    values = f32(2, 3)
    answer = tool.infer(job, None, None, {"x": values}, surroundings[0])
    np.testing.assert_allclose(answer["y"], np.exp(np.maximum(values, 0)), rtol=1e-5)
