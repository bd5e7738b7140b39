"""What a built ONNX graph really is: operators, the dtypes they run in, a structural fingerprint. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from enginewatch_db.model import Json

DTYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}

_FLOAT_COMPUTE = frozenset(
    (
        *("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"),
        *("MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm"),
        *("Attention", "MultiHeadAttention", "GroupQueryAttention", "LSTM", "GRU", "RNN"),
    )
)
_INT8_COMPUTE = frozenset(
    (
        *("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention", "DynamicQuantizeLSTM"),
    )
)
"""Operators that hold nearly all arithmetic of a network: the realised precision is theirs."""

_FLOAT_RESULT = frozenset(("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DequantizeLinear", "QAttention"))
_INT64_RESULT = frozenset(("Shape", "Size", "NonZero", "ArgMax", "ArgMin"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """What was read back from a built graph.

    Attributes:
        realised_precision: Dtypes of the compute operators, most frequent first, joined by ``+``;
            ``None`` when the graph has no such operator.
        compute_ops: Dtype → operator → count, of the compute operators.
        operators: Operator → count, of all nodes.
        fingerprint: SHA-256 of the multiset of (domain, operator, input dtypes, output dtypes).
    """

    realised_precision: str | None
    compute_ops: dict[str, dict[str, int]]
    operators: dict[str, int]
    fingerprint: str

    def details(self) -> Json:
        """Return what belongs into an engine record."""
        return {"compute_ops": self.compute_ops, "operators": self.operators}


def read_graph(model: onnx.ModelProto) -> GraphFacts:
    """Read the facts of a graph; types that the file does not state are followed from the nodes before."""
    types = _stated_types(model.graph)
    compute: dict[str, Counter[str]] = {}
    structure: Counter[str] = Counter()
    for node in model.graph.node:
        _follow_types(node, types)
        structure[_signature(node, types)] += 1
        dtype = _compute_dtype(node, types)
        if dtype is not None:
            compute.setdefault(dtype, Counter())[node.op_type] += 1
    order = sorted(compute, key=lambda dtype: (-compute[dtype].total(), dtype))
    return GraphFacts(
        realised_precision="+".join(order) or None,
        compute_ops={dtype: dict(sorted(compute[dtype].items())) for dtype in order},
        operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        fingerprint=hashlib.sha256(json.dumps(sorted(structure.items())).encode()).hexdigest(),
    )


def _stated_types(graph: onnx.GraphProto) -> dict[str, int]:
    stated = {
        item.name: item.type.tensor_type.elem_type
        for item in (*graph.value_info, *graph.input, *graph.output)
        if item.type.HasField("tensor_type")
    }
    return stated | {weight.name: weight.data_type for weight in graph.initializer}


def _follow_types(node: onnx.NodeProto, types: dict[str, int]) -> None:
    """Guess the type of outputs that the file does not state: optimised graphs often drop their value infos."""
    for position, output in enumerate(node.output):
        if output and output not in types:
            guess = _result_type(node, position, types)
            if guess is not None:
                types[output] = guess


def _result_type(node: onnx.NodeProto, position: int, types: dict[str, int]) -> int | None:
    known = [types[name] for name in node.input if name in types]
    if node.op_type == "Cast":
        return next((item.i for item in node.attribute if item.name == "to"), None)
    if node.op_type in _FLOAT_RESULT:
        return int(TensorProto.FLOAT)
    if node.op_type in _INT64_RESULT:
        return int(TensorProto.INT64)
    if node.op_type == "DynamicQuantizeLinear":
        return int((TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8)[position])
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        return int(TensorProto.INT32)
    if node.op_type.startswith("Q"):  # QuantizeLinear, QLinear*, QGemm: the type of the last zero point
        return next((kind for kind in reversed(known) if kind in (TensorProto.INT8, TensorProto.UINT8)), None)
    return known[0] if known else None


def _signature(node: onnx.NodeProto, types: dict[str, int]) -> str:
    def kinds(names: list[str]) -> list[str]:
        return [_name(types.get(name)) for name in names if name]

    return json.dumps([node.domain, node.op_type, kinds(list(node.input)), kinds(list(node.output))])


def _name(elem_type: int | None) -> str:
    return "?" if elem_type is None else DTYPE_NAMES.get(elem_type, str(elem_type))


def _compute_dtype(node: onnx.NodeProto, types: dict[str, int]) -> str | None:
    if node.op_type in _INT8_COMPUTE:
        return "int8"
    if node.op_type not in _FLOAT_COMPUTE:
        return None
    known = [types[name] for name in node.input[:2] if name in types]
    return _name(known[-1]) if known else "?"
