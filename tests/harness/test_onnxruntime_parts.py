"""The pure parts of the ONNX Runtime backend: loop, accuracy, inputs, graph reading, bf16, errors, trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from enginewatch_db.errors import FAILURE_CODES, MeasurementError
from enginewatch_harness.accuracy.compare import accuracy_metrics, not_finite
from enginewatch_harness.backends import ort_loop
from enginewatch_harness.backends.ort_bf16 import convert_to_bf16
from enginewatch_harness.backends.ort_errors import classify, shorten
from enginewatch_harness.backends.ort_graph import read_graph
from enginewatch_harness.backends.ort_inputs import InputSpec, index_bounds, make_inputs
from enginewatch_harness.backends.ort_profile import layers_from_trace
from enginewatch_harness.models import find_generator

vectors = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


class Clock:
    """A clock that each inference moves on."""

    def __init__(self, steps):
        self.now, self.steps, self.calls = 1_000, iter(steps), 0

    def monotonic_ns(self):
        return self.now

    def infer(self):
        self.calls += 1
        self.now += next(self.steps)


@pytest.fixture
def clocked(monkeypatch):
    def make(steps):
        clock = Clock(steps)
        monkeypatch.setattr(ort_loop.time, "monotonic_ns", clock.monotonic_ns)
        return clock

    return make


def test_the_loop_keeps_every_sample(clocked):
    steps = [int(x) for x in np.random.default_rng(0).integers(1, 400_000, 9_000)]
    clock = clocked(steps)
    reports = []
    window = ort_loop.measure(
        clock.infer, duration_s=1.0, expected_ns=1 << 40, report=lambda n, median: reports.append((n, median))
    )
    n = len(window.latencies)
    assert list(window.latencies) == steps[:n], "more samples than the set-aside room, and none lost"
    assert n > 4096, "the room was doubled more than once"
    assert list(window.starts) == [1_000 + sum(steps[:i]) for i in range(n)]
    assert sum(steps[: n - 1]) < 1e9 <= sum(steps[:n])
    assert window.end_ns - window.start_ns == sum(steps[:n])
    assert 3 <= len(reports) <= 4
    assert all(0 < median < 0.4 for _, median in reports)


def test_one_inference_longer_than_the_window(clocked):
    window = ort_loop.measure(clocked([5_000_000_000]).infer, duration_s=1.0, expected_ns=1, report=lambda *_: None)
    assert list(window.latencies) == [5_000_000_000]


def test_warm_up_takes_the_later_half(clocked):
    clock = clocked([900_000_000, 1_000, 1_000, 2_000, 2_000, 3_000, 99_000_000, 99_000_000])
    assert ort_loop.warm_up(clock.infer, 0.999) == 3_000
    assert clock.calls == 7


def test_warm_up_runs_at_least_three_times(clocked):
    clock = clocked([10, 10, 10, 10])
    ort_loop.warm_up(clock.infer, 0.0)
    assert clock.calls == 3


def compared(got, want):
    """Return the metrics of one output in some batches."""
    return accuracy_metrics({"y": got}, {"y": want}).metrics


@given(vectors)
def test_identical_outputs_are_identical(values):
    array = np.array(values, np.float32)
    found = {metric.metric: metric for metric in compared([array], [array])}
    assert found["output_max_abs"].value == 0
    if np.linalg.norm(array.astype(np.float64)) > 0:
        assert found["output_rel_l2"].value == 0
        assert found["output_cosine"].value == pytest.approx(1)
    else:
        assert found["output_rel_l2"].absent_reason
        assert found["output_cosine"].absent_reason


@given(vectors, st.floats(0.01, 100))
def test_scaling_changes_the_distance_and_not_the_angle(values, factor):
    reference = np.array(values, np.float64)
    if np.linalg.norm(reference) < 1e-6:
        return
    found = {metric.metric: metric.value for metric in compared([reference * factor], [reference])}
    assert found["output_rel_l2"] == pytest.approx(abs(factor - 1), abs=1e-9)
    assert found["output_cosine"] == pytest.approx(1)


def test_accuracy_by_hand():
    got = [np.array([1.0, 2.0]), np.array([[2.0]])]
    want = [np.array([1.0, 0.0]), np.array([[2.0]])]
    found = {metric.metric: metric.value for metric in compared(got, want)}
    assert found["output_rel_l2"] == pytest.approx(2 / np.sqrt(5))
    assert found["output_max_abs"] == 2
    assert found["output_cosine"] == pytest.approx(5 / (3 * np.sqrt(5)))


def test_other_shapes_are_not_compared():
    found = compared([np.zeros(2)], [np.zeros(3)])
    assert [metric.value for metric in found] == [None] * 4
    assert "other shapes" in found[0].absent_reason


def test_not_finite_counts():
    assert not_finite(["a", "b"], [np.array([1.0, np.nan, np.inf]), np.array([1])]) == ["a: 2 of 3 values"]


def test_inputs_are_seeded_and_typed():
    specs = [
        InputSpec(name="f", kind="tensor(float)", dims=(None, 3)),
        InputSpec(name="h", kind="tensor(float16)", dims=(None, 3)),
        InputSpec(name="ids", kind="tensor(int64)", dims=(None, 3)),
        InputSpec(name="mask", kind="tensor(int32)", dims=(None, 3)),
        InputSpec(name="flag", kind="tensor(bool)", dims=(None, 3)),
    ]
    shapes = {spec.name: (2, 3) for spec in specs}
    made = make_inputs(specs, shapes, {"ids": 5}, seed=1)
    again = make_inputs(specs, shapes, {"ids": 5}, seed=1)
    assert all((made[name] == again[name]).all() for name in shapes)
    assert [made[name].dtype for name in shapes] == [np.float32, np.float16, np.int64, np.int32, np.bool_]
    assert made["ids"].min() >= 0
    assert made["ids"].max() < 5
    assert len(set(made["ids"].ravel().tolist())) > 1
    assert (made["mask"] == 1).all()
    assert (made["f"] != make_inputs(specs, shapes, {}, seed=2)["f"]).any()


def test_index_bounds_come_from_the_table():
    assert index_bounds(find_generator("transformer_ids").build(0)) == {"input_ids": 2048}
    assert index_bounds(find_generator("transformer_tiny").build(0)) == {}


def test_bf16_conversion_computes_the_same_within_its_resolution():
    model = find_generator("transformer_tiny").build(0)
    converted = convert_to_bf16(model)
    onnx.checker.check_model(converted)
    onnx.shape_inference.infer_shapes(converted, check_type=True, strict_mode=True)
    assert {weight.data_type for weight in model.graph.initializer} >= {TensorProto.FLOAT}, "the source is untouched"
    kinds = {weight.data_type for weight in converted.graph.initializer}
    assert TensorProto.FLOAT not in kinds
    assert TensorProto.BFLOAT16 in kinds
    assert [item.type.tensor_type.elem_type for item in converted.graph.input] == [TensorProto.FLOAT]
    x = {"hidden_states": np.random.default_rng(0).standard_normal((2, 8, 32)).astype(np.float32)}
    want, got = (ReferenceEvaluator(item).run(None, x)[0] for item in (model, converted))
    error = np.linalg.norm(np.asarray(got, np.float32) - want) / np.linalg.norm(want)
    assert 1e-5 < error < 0.05
    assert read_graph(converted).realised_precision == "bf16"


def test_bf16_rounds_to_nearest_even():
    weight = numpy_helper.from_array(np.array([1.0, 1.00390625, 1.01171875, -3.14159], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weight],
    )
    converted = convert_to_bf16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    values = numpy_helper.to_array(converted.graph.initializer[0]).astype(np.float32)
    assert values.tolist() == [1.0, 1.0, 1.015625, -3.140625]


@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_tiny"])
def test_a_model_as_written_is_fp32(kind):
    facts = read_graph(find_generator(kind).build(0))
    assert facts.realised_precision == "fp32"
    assert sum(facts.operators.values()) == len(find_generator(kind).build(0).graph.node)


def test_the_fingerprint_ignores_names_weights_and_order():
    model = find_generator("transformer_tiny").build(0)
    other = find_generator("transformer_tiny").build(1)
    for node in other.graph.node:
        node.name = f"renamed_{node.name}"
    assert read_graph(model).fingerprint == read_graph(other).fingerprint
    other.graph.node[3].op_type = "Tanh"
    assert read_graph(model).fingerprint != read_graph(other).fingerprint


def test_the_fingerprint_knows_dtypes():
    model = find_generator("transformer_tiny").build(0)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    weight = next(item for item in other.graph.initializer if item.name == "head_weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), "head_weight"))
    assert read_graph(model).operators == read_graph(other).operators
    assert read_graph(model).fingerprint != read_graph(other).fingerprint


@pytest.mark.parametrize(
    ("reason", "precision", "code"),
    [
        (
            "[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from m.onnx failed: File doesn't exist",
            "fp32",
            "model_missing",
        ),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.", "fp32", "model_corrupt"),
        ("Could not find an implementation for Add(14) node with name 'n'", "bf16", "unsupported_precision"),
        ("Could not find an implementation for Add(14) node with name 'n'", "fp32", "unsupported_operator"),
        (
            "Type Error: Type 'tensor(bfloat16)' of input parameter (x) of operator (Conv) in node (s) is invalid.",
            "bf16",
            "unsupported_precision",
        ),
        ("Error No Op registered for Foo with domain_version of 17", "int8", "unsupported_operator"),
        ("Fatal error: my.plugin:Foo(-1) is not a registered function/op", "fp32", "unsupported_operator"),
        ("Got invalid dimensions for input: x", "fp32", "shape_outside_profile"),
        ("/a/b.cc:360 void* f(size_t, bool) Failed to allocate memory for requested buffer", "fp32", "out_of_memory"),
        ("something that no one has seen", "fp32", "crashed"),
    ],
)
def test_messages_of_onnxruntime_have_a_code(reason, precision, code):
    error = classify(reason, model=Path("m.onnx"), precision=precision)
    assert error.code == code
    assert code in FAILURE_CODES
    assert "m.onnx" in error.message


@given(st.text(max_size=2000))
def test_any_message_becomes_an_error(reason):
    error = classify(reason, model=Path("m.onnx"), precision="int8")
    assert error.code in FAILURE_CODES
    assert len(shorten(reason)) <= 300


def trace(*nodes):
    return json.dumps(
        [
            {"cat": "Session", "name": "model_run", "dur": 99},
            *(
                {
                    "cat": "Node",
                    "name": f"{name}_kernel_time",
                    "dur": dur,
                    "args": {"op_name": op, "provider": "P", "input_type_shape": [{"float": [1]}]},
                }
                for name, op, dur in nodes
            ),
        ]
    )


def test_trace_to_layers():
    table = layers_from_trace(trace(("a", "Conv", 30), ("b", "Relu", 10), ("a", "Conv", 50), ("b", "Relu", 10)))
    assert {name: value for name, value in table.to_pylist()[0].items() if value is not None} == {
        "layer_idx": 0,
        "name": "a",
        "layer_type": "Conv",
        "tactic": "P",
        "dtype": "fp32",
        "calls": 2,
        "mean_ns": 40_000,
        "median_ns": 40_000,
        "time_pct": 80.0,
        "source": "onnxruntime",
        "input_dtype": "fp32",
        "input_shapes": "1",
        "origin": ["a"],
    }


@given(st.text(max_size=80) | st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=5).map(json.dumps))
def test_a_broken_trace_is_an_error_of_ours(text):
    with pytest.raises(MeasurementError):
        layers_from_trace(text)
