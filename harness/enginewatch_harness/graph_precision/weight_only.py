"""Weights of matrix products as INT4 or FP4 with DequantizeLinear in front; activations keep their type. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from enginewatch_harness.graph_precision.blocks import NVFP4_BLOCK, Weight, quantize_fp4, quantize_int4

_STEP = "step"
_Made = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]
_Maker = Callable[[Weight, int, int, str], _Made]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A weight of a matrix product, and the dimension that the product sums over."""

    node: onnx.NodeProto
    weight: onnx.TensorProto
    axis: int


def weights_to_int4(model: onnx.ModelProto, block_size: int) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return a copy with INT4 weights in blocks, and notes on what stayed as it was.

    A weight whose summed dimension is no multiple of ``block_size`` gets the largest smaller power of two that
    divides it; below 16 it stays as it was.
    """
    return _convert(model, block_size, _int4_nodes)


def weights_to_fp4(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return a copy with FP4 (NVFP4) weights in blocks of 16, and notes on what stayed as it was."""
    return _convert(model, NVFP4_BLOCK, _fp4_nodes)


def steps_in_fp32(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the nodes that make FP4 steps: a tensor's scale is too small for fp16."""
    return tuple(node.name for node in model.graph.node if node.name.endswith(f"_dequantized_{_STEP}"))


def _convert(model: onnx.ModelProto, block_size: int, make: _Maker) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    graph = converted.graph
    kept: list[str] = []
    done: dict[tuple[str, int], str] = {}
    head: list[onnx.NodeProto] = []
    for use in list(_uses(graph)):
        key = (use.weight.name, use.axis)
        if key not in done:
            values = numpy_helper.to_array(use.weight).astype(np.float32)
            size = _block(values.shape[use.axis], block_size)
            if size is None:
                kept.append(f"{use.node.name or use.node.op_type} ({values.shape[use.axis]} wide)")
                continue
            done[key] = f"{use.weight.name}_axis{use.axis}_dequantized"
            nodes, tensors = make(values, use.axis, size, done[key])
            head.extend(nodes)
            graph.initializer.extend(tensors)
        use.node.input[1] = done[key]
    _put_in_front(graph, head)
    _drop_unused(graph)
    notes = [f"{len(done)} weights in blocks of up to {block_size}"] if done else ["no weight was quantised"]
    if kept:
        notes.append(f"not a multiple of 16, so left as they are: {', '.join(kept)}")
    return converted, tuple(notes)


def _uses(graph: onnx.GraphProto) -> Iterator[_Use]:
    weights = {item.name: item for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
            continue
        weight = weights.get(node.input[1])
        if weight is None or len(weight.dims) != 2:
            continue
        flipped = node.op_type == "Gemm" and any(item.name == "transB" and item.i for item in node.attribute)
        yield _Use(node=node, weight=weight, axis=1 if flipped else 0)


def _block(width: int, wanted: int) -> int | None:
    """Return the block size for a dimension: ``wanted``, or the largest power of two below it that divides."""
    if width % wanted == 0:
        return wanted
    divisor = width & -width
    size = min(divisor, 1 << (wanted.bit_length() - 1))
    return size if size >= NVFP4_BLOCK else None


def _int4_nodes(values: Weight, axis: int, block_size: int, output: str) -> _Made:
    blocks = quantize_int4(values, axis=axis, block_size=block_size)
    names = [f"{output}_int4", f"{output}_scale"]
    node = helper.make_node("DequantizeLinear", names, [output], name=output, axis=axis, block_size=block_size)
    return [node], [
        numpy_helper.from_array(item, name) for item, name in zip((blocks.values, blocks.scales), names, strict=True)
    ]


def _fp4_nodes(values: Weight, axis: int, block_size: int, output: str) -> _Made:
    blocks = quantize_fp4(values, axis=axis)
    scales, tensor_scale, step, packed = (f"{output}_{part}" for part in ("scale8", "scale", _STEP, "fp4"))
    nodes = [
        helper.make_node("DequantizeLinear", [scales, tensor_scale], [step], name=step),
        helper.make_node("DequantizeLinear", [packed, step], [output], name=output, axis=axis, block_size=block_size),
    ]
    tensors = [
        numpy_helper.from_array(blocks.scales, scales),
        numpy_helper.from_array(np.array(blocks.tensor_scale), tensor_scale),
        numpy_helper.from_array(blocks.values, packed),
    ]
    return nodes, tensors


def _put_in_front(graph: onnx.GraphProto, head: list[onnx.NodeProto]) -> None:
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*head, *body])


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take out weights that nothing reads any more; where there are sub-graphs, which may read them, keep all."""
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in graph.node for attribute in node.attribute):
        return
    read = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    needed = [item for item in graph.initializer if item.name in read]
    del graph.initializer[:]
    graph.initializer.extend(needed)
