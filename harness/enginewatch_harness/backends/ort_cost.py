"""What ONNX Runtime's profiler tells of a node: datatypes, shapes, traffic and operations. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_harness.parse.inspector_dtypes import MAX_INT64, read_dtype
from enginewatch_harness.parse.inspector_matmul import matmul_flops
from enginewatch_harness.parse.inspector_tensors import Tensor, read_shape

_ADDED = re.compile(r"^fused |(?:_nchwc|_nhwc|_quant|_kernel)$|_token_\d+$")
"""What the graph optimiser adds to the name of the node that it replaces."""

_CONVOLUTION = re.compile(r"Conv(?:Integer)?$")
_MATMUL = re.compile(r"MatMul|Gemm")
_INT8 = re.compile(r"^QLinear|^Q(?:Gemm|Attention)$|Integer|^DynamicQuantize(?:MatMul|LSTM)$")
"""Operators that multiply 8-bit integers, whatever they read and write."""

_POINTWISE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Pow", "Neg", "Sqrt", "Exp", "Erf", "Tanh", "Sigmoid"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "HardSwish", "HardSigmoid"),
        *("Gelu", "FastGelu", "BiasGelu", "QuickGelu"),
    )
)
_MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """One node; ``None`` where the trace does not tell.

    Attributes:
        dtype: What it computes in.
        input_dtype: Datatype of the first input.
        output_dtype: Datatype of the first output.
        input_shapes: For example ``1x3x224x224, 64x3x7x7``.
        output_shapes: As ``input_shapes``.
        weight_bytes: Size of its constant inputs; not told of weights that were packed beforehand.
        bytes: Activations, weights and outputs, each once.
        flops: Operations of convolutions, matrix products and pointwise nodes; a multiply-add is two.
    """

    dtype: str | None
    input_dtype: str | None
    output_dtype: str | None
    input_shapes: str | None
    output_shapes: str | None
    weight_bytes: int | None
    bytes: int | None
    flops: int | None


def source_node(name: str) -> str:
    """Return the model's node that a node of the optimised graph stands for."""
    return _ADDED.sub("", name)


def node_facts(operator: str, arguments: dict[str, Any]) -> NodeFacts:
    """Read the arguments of a kernel's event; they say the same in each call.

    Args:
        operator: ``op_name``.
        arguments: ``args``: ``input_type_shape`` as ``[{"float": [1, 3]}, ...]``, sizes as decimal texts.
    """
    inputs, outputs = _tensors(arguments.get("input_type_shape")), _tensors(arguments.get("output_type_shape"))
    input_dtype, output_dtype = (_dtype(side) for side in (inputs, outputs))
    weights = _size(arguments, "parameter_size")
    return NodeFacts(
        dtype="int8" if _INT8.search(operator) else input_dtype,
        input_dtype=input_dtype,
        output_dtype=output_dtype,
        input_shapes=", ".join(tensor.shape_text for tensor in inputs) or None,
        output_shapes=", ".join(tensor.shape_text for tensor in outputs) or None,
        weight_bytes=weights or None,
        bytes=_traffic(operator, arguments, inputs, weights),
        flops=_flops(operator, inputs, outputs),
    )


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 - any JSON value
    found = []
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict) and item:
            kind, shape = next(iter(item.items()))
            found.append(Tensor(name="", words=str(kind), shape=read_shape(shape)))
    return found


def _dtype(tensors: Sequence[Tensor]) -> str | None:
    return (read_dtype(tensors[0].words) or tensors[0].words) if tensors else None


def _size(arguments: dict[str, Any], key: str) -> int | None:
    text = str(arguments.get(key, ""))
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_INT64)) else None
    return value if value is None or value <= MAX_INT64 // 4 else None


def _traffic(operator: str, arguments: dict[str, Any], inputs: Sequence[Tensor], weights: int | None) -> int | None:
    read, written = _size(arguments, "activation_size"), _size(arguments, "output_size")
    packed = (_CONVOLUTION.search(operator) or _MATMUL.search(operator)) and len(inputs) < _MATRIX
    if read is None or written is None or packed:
        return None
    return (read + written + (weights or 0)) or None


def _flops(operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int | None:
    if not inputs or not outputs or not inputs[0].shape or not outputs[0].elements:
        return None
    found: int | None = None
    if _CONVOLUTION.search(operator):
        filters = [item.shape for item in inputs[1:] if item.shape and len(item.shape) == len(inputs[0].shape)]
        found = 2 * outputs[0].elements * math.prod(filters[0][1:]) if filters else None
    elif _MATMUL.search(operator):
        matrices = [item for item in inputs if item.shape and len(item.shape) >= _MATRIX]
        # Constant matrices that were packed beforehand are not in the trace: the rows of the other are their height.
        alone = 2 * outputs[0].elements * inputs[0].shape[-1] if len(matrices) == 1 else None
        found = matmul_flops(inputs, outputs[0]) or alone
    elif operator in _POINTWISE:
        found = outputs[0].elements
    return found if found is not None and 0 < found <= MAX_INT64 else None
