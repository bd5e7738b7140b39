"""What a layer must move and compute at least, from the shapes that TensorRT's inspector tells. Pure.

Formulas (docs/layers.md): convolution 2·N·K·P·Q·(C/groups)·R·S; matrix product 2·M·N·K; pooling, pointwise,
normalisation and reduction by operations per value. A multiply-add is two operations. What no formula fits is ``None``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_harness.parse.inspector_dtypes import MAX_INT64, packed_bytes, read_dtype
from enginewatch_harness.parse.inspector_matmul import matmul_flops
from enginewatch_harness.parse.inspector_tensors import Tensor

_MOVES = re.compile(
    r"reformat|shuffle|constant|no_?op|concat|slice|gather|scatter|copy|cast|transpose|resize", re.IGNORECASE
)
_MATMUL = re.compile(r"gemm|matmul|matrix_?multiply", re.IGNORECASE)
_POINTWISE = re.compile(r"point_?wise|element_?wise|activation|unary|scale|^kgen$", re.IGNORECASE)
_NORMALISATION = re.compile(r"softmax|norm", re.IGNORECASE)
_REDUCTION = re.compile(r"reduc|topk|arg", re.IGNORECASE)
_COMPILED_PRODUCT = re.compile(r"gemm|mha|conv|matmul|_fc|attention", re.IGNORECASE)
_COMPILED_MATMUL = re.compile(r"gemm|matmul|myl_Fc", re.IGNORECASE)
_NO_TRAFFIC = re.compile(r"^(?:constant|no_?op)$", re.IGNORECASE)
_PARTLY_READ = re.compile(r"gather|slice|resize", re.IGNORECASE)

_NORMALISATION_OPS = 5
"""Operations per value: largest, difference, exponential, sum, quotient; a layer norm takes about as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one call; ``None`` where it cannot be known, with the reason.

    Attributes:
        weight_bytes: Size of weights and bias as the engine stores them.
        bytes: Inputs, outputs and weights, each once: the least that must come from memory or cache.
        flops: Operations of the arithmetic.
        bytes_reason: Why ``bytes`` is not known.
        flops_reason: Why ``flops`` is not known.
    """

    weight_bytes: int | None = None
    bytes: int | None = None
    flops: int | None = None
    bytes_reason: str | None = "the tool tells no details"
    flops_reason: str | None = "the tool tells no details"


UNKNOWN = Cost()
"""Of a layer that only its name is known of."""


def layer_cost(
    layer: dict[str, Any],
    kind: str | None,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    nodes: int = 1,
) -> Cost:
    """Return the cost of a layer.

    Args:
        layer: Its object in the inspector's JSON.
        kind: Its ``LayerType``.
        inputs: Its inputs.
        outputs: Its outputs.
        nodes: Nodes of the source model in it: operations per value of a pointwise layer.
    """
    words = kind or ""
    weights = _weight_bytes(layer)
    moved, no_bytes = _traffic(words, inputs, outputs, weights)
    flops, no_flops = _flops(layer, words, inputs, outputs, nodes)
    return Cost(
        weight_bytes=weights,
        bytes=moved,
        flops=flops,
        bytes_reason=no_bytes if moved is None else None,
        flops_reason=no_flops if flops is None else None,
    )


def _traffic(
    kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], weights: int | None
) -> tuple[int | None, str]:
    if _NO_TRAFFIC.search(kind):
        return None, "it moves nothing"
    if _PARTLY_READ.search(kind):
        return None, "it reads a part of its input that is not told"
    tensors = {
        (side, tensor.name, tensor.shape): tensor for side, group in enumerate((inputs, outputs)) for tensor in group
    }
    sizes = [tensor.bytes for tensor in tensors.values()]
    known = [size for size in sizes if size is not None]
    if not sizes or len(known) < len(sizes):
        return None, "a shape or datatype is not known"
    total = sum(known) + (weights or 0)
    return (total, "") if 0 < total <= MAX_INT64 else (None, "its tensors are empty")


def _weight_bytes(layer: dict[str, Any]) -> int | None:
    sizes = [size for key in ("Weights", "weights", "Bias") if (size := _stored_bytes(layer.get(key))) is not None]
    return sum(sizes) if sizes else None


def _stored_bytes(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    count = _count(value.get("Count")) if isinstance(value, dict) else None
    return packed_bytes(count, read_dtype(str(value.get("Type", "")))) if count else None


def _count(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    return value if type(value) is int and 0 < value < MAX_INT64 // 8 else None


def _flops(
    layer: dict[str, Any], kind: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], nodes: int
) -> tuple[int | None, str]:
    parameters = str(layer.get("ParameterType") or "")
    found: int | None
    if _MOVES.search(kind):
        return None, "it moves data and computes nothing"
    if not inputs or not outputs or any(tensor.elements is None for tensor in (inputs[0], outputs[0])):
        return None, "a shape is not known"
    if parameters in ("Convolution", "Deconvolution", "FullyConnected") or "OutMaps" in layer:
        found = _weighted_flops(layer, parameters, inputs[0], outputs[0])
    elif _MATMUL.search(kind) or _MATMUL.search(parameters) or _is_compiled_product(kind, layer):
        weights = layer.get("Weights")
        found = matmul_flops(inputs, outputs[0], _count(weights.get("Count")) if isinstance(weights, dict) else None)
    else:
        found = _by_value(layer, kind, parameters, inputs[0], outputs[0], nodes)
    if found is None or not 0 < found <= MAX_INT64:
        return None, f"no formula fits {kind or 'a layer without a type'}"
    return found, ""


def _is_compiled_product(kind: str, layer: dict[str, Any]) -> bool:
    """Return whether a kernel of TensorRT's compiler is a matrix product with what follows it fused."""
    name = str(layer.get("Name"))
    return kind in ("kgen", "fusion") and bool(_COMPILED_MATMUL.search(name)) and "mha" not in name.lower()


def _weighted_flops(layer: dict[str, Any], parameters: str, source: Tensor, result: Tensor) -> int | None:
    """Operations of convolutions and fully connected layers, from the weights that each output value needs."""
    maps, groups = _count(layer.get("OutMaps")), _count(layer.get("Groups")) or 1
    if maps is None or source.elements is None or result.elements is None:
        return None
    weights = layer.get("Weights")
    count = _count(weights.get("Count")) if isinstance(weights, dict) else None
    per_map = count / maps if count else _filter_size(layer, source, groups)
    if per_map is None:
        return None
    if parameters == "Deconvolution":  # each input value meets all weights of its channel
        channels = _channels(source)
        return round(2 * source.elements * per_map * maps / channels) if channels else None
    return round(2 * result.elements * per_map)


def _filter_size(layer: dict[str, Any], source: Tensor, groups: int) -> float | None:
    kernel, channels = layer.get("Kernel"), _channels(source)
    if not isinstance(kernel, list) or not kernel or channels is None:
        return None
    sizes = [_count(size) for size in kernel]
    known = [size for size in sizes if size is not None]
    return math.prod(known) * channels / groups if len(known) == len(sizes) else None


def _channels(tensor: Tensor) -> int | None:
    """Channels of NCHW or NCDHW."""
    return tensor.shape[1] if tensor.shape and len(tensor.shape) > 2 and tensor.shape[1] > 0 else None


def _by_value(
    layer: dict[str, Any], kind: str, parameters: str, source: Tensor, result: Tensor, nodes: int
) -> int | None:
    """Operations of layers that do the same for each value."""
    read, written = source.elements, result.elements
    if read is None or written is None:
        return None
    if parameters == "Pooling":
        window = layer.get("WindowSize")
        sizes = [_count(size) for size in window] if isinstance(window, list) and window else [None]
        known = [size for size in sizes if size is not None]
        return written * math.prod(known) if len(known) == len(sizes) else None
    names = f"{layer.get('Name')} {layer.get('TacticName')}"
    if _POINTWISE.search(kind) and not _COMPILED_PRODUCT.search(names):
        return max(read, written) * max(nodes, 1)
    if _NORMALISATION.search(kind):
        return read * _NORMALISATION_OPS
    return read if _REDUCTION.search(kind) else None
