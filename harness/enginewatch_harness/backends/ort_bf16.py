"""An fp32 ONNX graph with its arithmetic in bfloat16; inputs and outputs stay fp32. Pure."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_KEEP_FLOAT_INPUTS: dict[str, frozenset[int]] = {
    "Resize": frozenset((1, 2)),
    "Upsample": frozenset((1,)),
    "QuantizeLinear": frozenset((1,)),
    "DequantizeLinear": frozenset((1,)),
}
"""Operator → inputs that the ONNX specification fixes to fp32 (scales, regions of interest)."""


def convert_to_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with fp32 weights, constants and casts in bfloat16, and casts at the graph's inputs and outputs.

    Sub-graphs (If, Loop, Scan) are converted as well.
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    _convert_graph(graph, _fixed_float_names(graph))
    head = _cast_inputs(graph)
    tail = _cast_outputs(graph)
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*head, *body, *tail])
    return converted


def _fixed_float_names(graph: onnx.GraphProto) -> frozenset[str]:
    return frozenset(
        name
        for node in graph.node
        for position, name in enumerate(node.input)
        if position in _KEEP_FLOAT_INPUTS.get(node.op_type, ())
    )


def _convert_graph(graph: onnx.GraphProto, keep: frozenset[str]) -> None:
    del graph.value_info[:]  # their types no longer hold; onnxruntime infers them anew
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT and weight.name not in keep:
            weight.CopyFrom(_convert_tensor(weight))
    for node in graph.node:
        fixed = any(name in keep for name in node.output)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _convert_graph(attribute.g, keep | _fixed_float_names(attribute.g))
            elif fixed:
                continue
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_convert_tensor(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.BFLOAT16


def _convert_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    bits = np.ascontiguousarray(numpy_helper.to_array(tensor), np.float32).view(np.uint32)
    # Round to nearest, ties to even: bfloat16 is the upper half of an fp32 (weights are finite: no NaN to guard).
    upper = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, upper.tobytes(), raw=True)


def _cast_inputs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    weights = {weight.name for weight in graph.initializer}
    casts = []
    for item in graph.input:
        if item.name in weights or item.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = f"{item.name}_bf16"
        casts.append(helper.make_node("Cast", [item.name], [inner], name=f"{inner}_cast", to=TensorProto.BFLOAT16))
        for node in graph.node:
            node.input[:] = [inner if name == item.name else name for name in node.input]
    return casts


def _cast_outputs(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    casts = []
    for item in graph.output:
        if item.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = f"{item.name}_bf16"
        for node in graph.node:
            node.output[:] = [inner if name == item.name else name for name in node.output]
            node.input[:] = [inner if name == item.name else name for name in node.input]
        casts.append(helper.make_node("Cast", [inner], [item.name], name=f"{inner}_cast", to=TensorProto.FLOAT))
    return casts
