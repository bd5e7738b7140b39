"""Layers of TensorRT 8.6, 10 and 11 from the engine inspector: tensors, origin, weights, traffic, operations."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import LAYERS
from enginewatch_harness.backends.ort_cost import node_facts, source_node
from enginewatch_harness.parse.inspector import parse_layers
from enginewatch_harness.parse.inspector_dtypes import packed_bytes, tensor_bytes
from enginewatch_harness.parse.inspector_matmul import matmul_flops
from enginewatch_harness.parse.inspector_origin import read_origin
from enginewatch_harness.parse.inspector_tensors import Tensor
from enginewatch_harness.parse.trtexec_json import LayerTime, Profile, parse_profile
from enginewatch_harness.parse.trtexec_layers import fingerprint, layers_table, realised_precision

DATA = Path(__file__).parent.parent / "data" / "harness" / "trtexec"


def recorded(name):
    return gzip.decompress((DATA / name).read_bytes()).decode()


def tensor(name, shape, words):
    return {"Name": name, "Location": "Device", "Dimensions": shape, "Format/Datatype": words}


def one(**layer):
    return parse_layers(json.dumps({"Layers": [{"Name": "l", "Inputs": [], "Outputs": [], **layer}]}))[0]


def profile(*times):
    layers = [LayerTime(name=name, time_ms=ms, average_ms=ms, median_ms=None, percentage=None) for name, ms in times]
    return Profile(count=1, layers=tuple(layers))


def test_a_recorded_convolution_is_read_whole():
    table = layers_table(
        parse_profile(recorded("resnet50-fp16-b8.profile.json.gz")),
        parse_layers(recorded("resnet50-fp16-b8.layers.json.gz")),
    )
    assert table.schema == LAYERS
    row = next(row for row in table.to_pylist() if row["name"] == "/conv1/Conv + /relu/Relu")
    assert row["origin"] == ["/conv1/Conv", "/relu/Relu"]
    assert row["input_tensors"] == ["Reformatted Input Tensor 0 to /conv1/Conv + /relu/Relu"]
    assert row["output_tensors"] == ["/relu/Relu_output_0"]
    assert (row["input_shapes"], row["output_shapes"]) == ("8x3x224x224", "8x64x112x112")
    assert (row["dtype"], row["input_dtype"], row["output_dtype"]) == ("fp16", "fp16", "fp16")
    assert row["format"].startswith("Channel major FP16 format where channel % 2 == 0 → ")
    assert row["weight_bytes"] == 2 * (9408 + 64)
    assert row["flops"] == 2 * 8 * 64 * 112 * 112 * 3 * 7 * 7
    # Three channels take the room of four.
    assert row["bytes"] == 2 * (8 * 4 * 224 * 224 + 8 * 64 * 112 * 112 + 9408 + 64)
    assert row["calls"] == 3017
    assert row["mean_ns"] == 24781


@pytest.mark.parametrize("name", sorted(path.name for path in DATA.glob("resnet50*.layers.json.gz")))
def test_resnet50_has_the_operations_that_are_known_of_it(name):
    batch = int(name.split("-b")[1].split(".")[0])
    layers = parse_layers(recorded(name))
    flops = sum(layer.cost.flops or 0 for layer in layers if "Conv" in layer.layer_type)
    assert flops / batch == pytest.approx(8.2e9, rel=0.02)  # 4.1 G multiply-adds
    weights = sum(layer.cost.weight_bytes or 0 for layer in layers if "Conv" in layer.layer_type)
    assert weights / (2 if "fp16" in name else 4) == pytest.approx(25.5e6, rel=0.01)
    for layer in layers:
        assert (layer.cost.flops is None) == (layer.cost.flops_reason is not None)
        assert (layer.cost.bytes is None) == (layer.cost.bytes_reason is not None)


def test_the_fingerprint_of_a_recording_has_not_changed():
    golden = json.loads((DATA / "golden.json").read_text())
    layers = parse_layers(recorded("resnet50-fp16-b8.layers.json.gz"))
    assert fingerprint(layers) == golden["resnet50-fp16-b8"]["layers"]["fingerprint"]


TENSORRT_10 = {
    "Layers": [
        {
            "Name": "__myl_CastMove_myl0_0",
            "LayerType": "kgen",
            "Inputs": [tensor("input_ids", [8, 128, 768], "Float")],
            "Outputs": [tensor("__mye101", [8, 128, 768], "Half")],
            "TacticName": "__myl_CastMove_0xabc",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": "/fc1/MatMul_myl0_1",
            "LayerType": "gemm",
            "Inputs": [tensor("__mye101", [1024, 768], "Half"), tensor("__mye7", [768, 3072], "Half")],
            "Outputs": [tensor("__mye102", [1024, 3072], "Half")],
            "TacticName": "sm90_xmma_gemm_f16f16_f16f32_f16_tn_n_tilesize128x128x64",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: /fc1/MatMul]\u001f[ONNX Layer: /fc1/Add]",
        },
        {
            "Name": "__myl_MulErfAddMul_myl0_2",
            "LayerType": "kgen",
            "Inputs": [tensor("__mye102", [1024, 3072], "Half")],
            "Outputs": [tensor("gelu", [8, 128, 3072], "Half")],
            "TacticName": "__myl_MulErfAddMul_0xdef",
            "StreamId": 1,
            "Metadata": "[ONNX Layer: /act/Mul][ONNX Layer: /act/Erf][ONNX Layer: /act/Add][ONNX Layer: /act/Mul_1]",
        },
        {
            "Name": "_gemm_mha_v2_myl0_3",
            "LayerType": "kgen",
            "Inputs": [tensor("q", [8, 12, 128, 64], "BFloat16")],
            "Outputs": [tensor("o", [8, 12, 128, 64], "BFloat16")],
            "TacticName": "_gemm_mha_v2_0x1",
            "Metadata": "[ONNX Layer: /attn/MatMul]\u001e[ONNX Layer: /attn/Softmax]",
        },
    ],
    "Bindings": ["input_ids", "gelu"],
}


def test_tensorrt_10_with_compiled_layers():
    layers = parse_layers(json.dumps(TENSORRT_10))
    cast, gemm, gelu, attention = layers
    assert (cast.input_dtype, cast.output_dtype, cast.origin) == ("fp32", "fp16", ())
    assert gemm.origin == ("/fc1/MatMul", "/fc1/Add")
    assert gemm.cost.flops == 2 * 1024 * 768 * 3072
    assert gemm.cost.bytes == 2 * (1024 * 768 + 768 * 3072 + 1024 * 3072)
    assert gelu.origin == ("/act/Mul", "/act/Erf", "/act/Add", "/act/Mul_1")
    assert gelu.cost.flops == 1024 * 3072 * 4
    assert (attention.input_dtype, attention.cost.flops) == ("bf16", None)
    assert attention.cost.flops_reason == "no formula fits kgen"
    assert realised_precision(layers) == "bf16+fp16"


def test_tensorrt_11_may_tell_format_and_datatype_apart():
    told = {"Name": "x", "Dimensions": [1, 4], "Format": "Row major linear", "Datatype": "FP8"}
    layer = one(LayerType="kgen", Inputs=[told], Outputs=[{**told, "Datatype": "FP4E2M1"}])
    assert (layer.input_dtype, layer.output_dtype) == ("fp8", "fp4")
    assert layer.cost.bytes == 4 + 2


def test_a_file_of_names_still_tells_what_was_fused():
    layers = parse_layers(json.dumps({"Layers": ["conv1 + relu1", "{ForeignNode[a...b]}"], "Bindings": []}))
    assert [layer.origin for layer in layers] == [("conv1", "relu1"), ("a", "b")]
    row = layers_table(profile(("conv1 + relu1", 0.5)), layers).to_pylist()[0]
    assert (row["mean_ns"], row["dtype"], row["flops"], row["bytes"]) == (500_000, None, None, None)
    assert fingerprint(layers) is None


@pytest.mark.parametrize(
    ("metadata", "name", "origin"),
    [
        ("[ONNX Layer: a]\x1e[ONNX Layer: b]", "x", ("a", "b")),
        ("[ONNX Layer: a[0]]\x1f[ONNX Layer: a[0]]", "x", ("a[0]",)),
        ("[ONNX Layer: a][ONNX Layer: b]", "x", ("a", "b")),
        ("", "conv + PWN(/sig, PWN(/mul)) + relu", ("conv", "/sig", "/mul", "relu")),
        (None, "reshape_after_/fc/Gemm", ("/fc/Gemm",)),
        (None, "{ForeignNode[/a/Add.../b/Mul]}", ("/a/Add", "/b/Mul")),
        (None, "__myl_MulAdd_myl0_3", ()),
        (None, "Reformatting CopyNode for Input Tensor 0 to conv", ()),
        (None, "", ()),
    ],
)
def test_origin(metadata, name, origin):
    assert read_origin(metadata, name) == origin


@pytest.mark.parametrize(
    ("shape", "words", "size"),
    [
        ([8, 3, 4, 4], "Row major linear FP16 format", 8 * 3 * 16 * 2),
        ([8, 3, 4, 4], "Channel major FP16 format where channel % 8 == 0", 8 * 8 * 16 * 2),
        ([1, 33, 4, 4], "Thirty-two wide channel vectorized row major Int8 format", 64 * 16),
        ([1, 3, 4, 4], "Four wide channel vectorized row major Int8 format", 4 * 16),
        ([3, 4, 4], "Two wide channel vectorized row major FP16 format", 4 * 16 * 2),
        ([10], "Channel major FP16 format where channel % 8 == 0", 20),
        ([3, 3], "Int4", 5),
        ([], "Float", 4),
        ([-1, 3], "Float", None),
        (None, "Float", None),
        ([3], "Something new", None),
    ],
)
def test_bytes_of_a_tensor(shape, words, size):
    assert tensor_bytes(shape, words) == size


def convolution(**changes):
    layer = {
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [tensor("x", [2, 32, 10, 10], "Half")],
        "Outputs": [tensor("y", [2, 64, 5, 5], "Half")],
        "Kernel": [3, 3],
        "Stride": [2, 2],
        "OutMaps": 64,
        "Groups": 1,
        "Weights": {"Type": "Half", "Count": 64 * 32 * 9},
    }
    return one(**{**layer, **changes}).cost


def test_operations_of_convolutions():
    full = 2 * (2 * 64 * 25) * 32 * 9
    assert convolution().flops == full
    assert convolution(Groups=32, Weights={"Type": "Half", "Count": 64 * 9}).flops == full // 32
    assert convolution(Weights={"Type": "Half", "Count": 0}).flops == full
    assert convolution(Weights={"Type": "Half", "Count": 0}, Groups=32).flops == full // 32
    assert convolution(Weights=None, Kernel=None).flops is None
    assert convolution(ParameterType="Deconvolution", LayerType="CudaDeconvolution").flops == 2 * (2 * 3200) * 64 * 9
    assert convolution(Outputs=[tensor("y", [-1, 64, 5, 5], "Half")]).flops_reason == "a shape is not known"


def test_operations_of_other_layers():
    x = tensor("x", [2, 8, 4, 4], "Half")
    assert one(LayerType="PointWiseV2", Inputs=[x], Outputs=[x], Name="PWN(a, b)").cost.flops == 256 * 2
    pooled = tensor("y", [2, 8, 2, 2], "Half")
    pooling = {"LayerType": "CaskPooling", "ParameterType": "Pooling", "Inputs": [x], "Outputs": [pooled]}
    assert one(**pooling, WindowSize=[2, 2]).cost.flops == 64 * 4
    assert one(**pooling).cost.flops is None
    assert one(LayerType="Softmax", Inputs=[x], Outputs=[x]).cost.flops == 256 * 5
    a, b, c = (tensor("t", shape, "Int8") for shape in ([4, 8], [8, 16], [4, 16]))
    assert one(LayerType="fusion", Name="__myl_FcCastAdd_myl0_1", Inputs=[a, b], Outputs=[c]).cost.flops == 2 * 512
    assert one(LayerType="kgen", Name="_gemm_mha_v2_myl0_1", Inputs=[a, b], Outputs=[c]).cost.flops is None
    for kind in ("Reformat", "NoOp", "Shuffle", "Gather", "PluginV3"):
        assert one(LayerType=kind, Inputs=[x], Outputs=[x]).cost.flops is None
    assert one(LayerType="Reformat", Inputs=[x], Outputs=[x]).cost.bytes == 2 * 256 * 2
    assert one(LayerType="NoOp", Inputs=[x], Outputs=[x]).cost.bytes is None


def matrix(*shape):
    return Tensor(name="t", words="Half", shape=shape)


@pytest.mark.parametrize(
    ("inputs", "result", "weights", "flops"),
    [
        ([(4, 8), (8, 16)], (4, 16), None, 2 * 4 * 8 * 16),
        ([(4, 8), (16, 8)], (4, 16), None, 2 * 4 * 8 * 16),
        ([(8, 4), (8, 16)], (4, 16), None, 2 * 4 * 8 * 16),
        ([(2, 3, 4, 8), (2, 3, 8, 16)], (2, 3, 4, 16), None, 2 * 6 * 4 * 8 * 16),
        ([(2, 5, 8), (8, 16)], (10, 16), None, 2 * 10 * 8 * 16),
        ([(4, 8), (8, 16), (1, 16)], (4, 16), None, 2 * 4 * 8 * 16),
        ([(4, 8)], (4, 16), 128, 2 * 4 * 8 * 16),
        ([(4, 4), (4, 4)], (4, 4), None, 2 * 64),
        ([(2, 5, 8), (8, 16)], (7, 16), None, None),
        ([(4, 8)], (4, 16), None, None),
        ([(4, 8), (9, 16)], (4, 16), None, None),
        ([(8,), (8, 16)], (16,), None, None),
    ],
)
def test_operations_of_matrix_products(inputs, result, weights, flops):
    assert matmul_flops([matrix(*shape) for shape in inputs], matrix(*result), weights) == flops


def test_layers_of_one_name_get_their_times_in_order_and_nothing_is_lost():
    named = [{"Name": name, "LayerType": kind} for name, kind in (("a", "X"), ("a", "Y"), ("b", "Z"), ("a", "W"))]
    rows = layers_table(profile(("a", 1), ("m", 2), ("a", 3)), parse_layers(json.dumps({"Layers": named}))).to_pylist()
    assert [(row["name"], row["layer_type"], row["mean_ns"]) for row in rows] == [
        ("a", "X", 1_000_000),
        ("m", None, 2_000_000),
        ("a", "Y", 3_000_000),
        ("b", "Z", None),
        ("a", "W", None),
    ]
    assert [row["layer_idx"] for row in rows] == [0, 1, 2, 3, 4]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Name", "Dimensions", "Format/Datatype", "Type", "Count"]), inner)
    ),
    max_leaves=8,
)
WORDS = st.sampled_from(["Half", "Float", "Channel major FP16 format where channel % 0 == 0", "x"])
TENSORS = st.lists(
    st.fixed_dictionaries(
        {"Name": st.text(max_size=2), "Dimensions": st.lists(st.integers(-2, 2**62), max_size=4)},
        optional={"Format/Datatype": WORDS | VALUES},
    ),
    max_size=3,
)
LAYER = st.fixed_dictionaries(
    {},
    optional={
        "Name": st.text(max_size=6) | VALUES,
        "LayerType": st.sampled_from(["CaskConvolution", "gemm", "kgen", "CaskPooling", "SoftMax", "Reduce", "X"]),
        "ParameterType": st.sampled_from(["Convolution", "Deconvolution", "Pooling", "MatrixMultiply"]) | VALUES,
        "Inputs": TENSORS | VALUES,
        "Outputs": TENSORS | VALUES,
        "Weights": VALUES,
        "OutMaps": st.integers() | VALUES,
        "Groups": st.integers() | VALUES,
        "Kernel": VALUES,
        "WindowSize": VALUES,
        "Metadata": st.text(max_size=20) | VALUES,
    },
)


@settings(max_examples=150)
@given(st.lists(LAYER | VALUES, max_size=4))
def test_any_json_is_read_or_refused_and_no_cost_is_nothing(layers):
    try:
        found = parse_layers(json.dumps({"Layers": layers}))
    except MeasurementError:
        return
    for layer in found:
        for value in (layer.cost.flops, layer.cost.bytes, layer.cost.weight_bytes):
            assert value is None or 0 < value < 2**63
    table = layers_table(None, found)
    assert table.num_rows == len(layers)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(MeasurementError):
        parse_layers(text)


def test_a_node_of_onnxruntime_tells_its_cost():
    conv = node_facts(
        "Conv",
        {
            "input_type_shape": [{"float": [2, 3, 8, 8]}, {"float": [16, 3, 3, 3]}],
            "output_type_shape": [{"float": [2, 16, 8, 8]}],
            "activation_size": "1536",
            "output_size": "8192",
            "parameter_size": "1728",
        },
    )
    assert (conv.dtype, conv.input_shapes, conv.output_shapes) == ("fp32", "2x3x8x8, 16x3x3x3", "2x16x8x8")
    assert (conv.flops, conv.bytes, conv.weight_bytes) == (2 * 2048 * 27, 1536 + 8192 + 1728, 1728)
    packed = {"input_type_shape": [{"float16": [2, 512]}], "output_type_shape": [{"float16": [2, 10]}]}
    gemm = node_facts("Gemm", {**packed, "activation_size": "2048", "output_size": "40", "parameter_size": "0"})
    assert (gemm.dtype, gemm.flops, gemm.bytes, gemm.weight_bytes) == ("fp16", 2 * 2 * 10 * 512, None, None)
    assert node_facts("QLinearConv", {"input_type_shape": [{"uint8": [1]}]}).dtype == "int8"
    assert node_facts("Conv", {}).flops is None
    assert [source_node(name) for name in ("/a/Conv_nchwc", "fused b", "/c/MatMul_quant", "d")] == [
        "/a/Conv",
        "b",
        "/c/MatMul",
        "d",
    ]


@given(
    st.sampled_from(["Conv", "Gemm", "Add", "MatMul"]),
    st.dictionaries(
        st.sampled_from(["input_type_shape", "output_type_shape", "activation_size", "output_size", "parameter_size"]),
        VALUES | st.lists(st.dictionaries(st.sampled_from(["float", "x"]), st.lists(st.integers(0, 9)), max_size=1)),
    ),
)
def test_any_arguments_of_a_node_are_read(operator, arguments):
    facts = node_facts(operator, arguments)
    assert all(value is None or value > 0 for value in (facts.flops, facts.bytes, facts.weight_bytes))


@given(st.integers(0, 10**6), st.sampled_from(["fp32", "fp16", "int8", "int4"]))
def test_packed_values_take_whole_bytes(count, dtype):
    bits = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}[dtype]
    assert 0 <= packed_bytes(count, dtype) * 8 - count * bits < 8
