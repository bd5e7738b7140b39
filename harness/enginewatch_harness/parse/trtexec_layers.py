"""Layers of a TensorRT engine: details joined with profile times, realised precision, fingerprint. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from enginewatch_db.tables import LAYERS, conform
from enginewatch_harness.parse.inspector import Layer, parse_layers
from enginewatch_harness.parse.trtexec_json import LayerTime, Profile

__all__ = ["Layer", "fingerprint", "layers_table", "parse_layers", "realised_precision"]

_COMPUTE = re.compile(
    r"conv|gemm|matmul|matrixmultiply|matrix_multiply|attention|mha|rnn|^correlation$|^runtime_fusion$", re.IGNORECASE
)
"""The last two are TensorRT-RTX's words (1.7) for a convolution, and for one or a product with what follows it."""

_COMPILED = frozenset(("kgen", "fusion"))
_COMPILED_COMPUTE = re.compile(r"gemm|mha|matmul|conv|(?:_|myl_)Fc", re.IGNORECASE)
"""Kernels of TensorRT's compiler, of which only the name tells that they multiply: ``_gemm_mha_v2_myl0_3``."""

_NOT_COMPUTE = re.compile(r"reformat|shuffle|constant|noop", re.IGNORECASE)


def fingerprint(layers: Sequence[Layer]) -> str | None:
    """Return a hash of the multiset of layer type, tactic, dtypes, formats and shapes; ``None`` without details."""
    structure = Counter(layer.signature for layer in layers if layer.signature is not None)
    if not structure:
        return None
    return hashlib.sha256(json.dumps(sorted(structure.items())).encode()).hexdigest()


def realised_precision(layers: Sequence[Layer], profile: Profile | None = None) -> str | None:
    """Return the dtypes that the layers with the arithmetic compute in, heaviest first, joined by ``+``.

    Weighted by time where a profile is given, else by count. A fp32 layer whose tactic says so is ``tf32``.
    ``None`` when the engine tells no details.
    """
    times = {layer.name: layer.average_ms or 0.0 for layer in profile.layers} if profile else {}
    weight: Counter[str] = Counter()
    spent: dict[str, float] = {}
    for layer in layers:
        dtype = _compute_dtype(layer)
        if dtype is not None:
            weight[dtype] += 1
            spent[dtype] = spent.get(dtype, 0.0) + times.get(layer.name, 0.0)
    return "+".join(sorted(weight, key=lambda name: (-spent[name], -weight[name], name))) or None


def _compute_dtype(layer: Layer) -> str | None:
    kind = layer.layer_type or ""
    computes = _COMPILED_COMPUTE.search(layer.name) if kind in _COMPILED else _COMPUTE.search(kind)
    if not computes or _NOT_COMPUTE.search(kind) or layer.input_dtype is None:
        return None
    return "tf32" if layer.input_dtype == "fp32" and "tf32" in (layer.tactic or "").lower() else layer.input_dtype


def layers_table(profile: Profile | None, layers: Sequence[Layer], *, source: str = "trtexec") -> pa.Table:
    """Join times and details by name into a table of ``tables.LAYERS``.

    Rows come in the profile's order, then layers without times. Either side may be empty; Myelin's names do not
    always match, and their rows then lack the other side. Layers of one name are matched in order.

    Args:
        profile: Times per layer.
        layers: Details per layer.
        source: Tool that told them.
    """
    details: dict[str, deque[Layer]] = {}
    for layer in layers:
        details.setdefault(layer.name, deque()).append(layer)
    joined: list[tuple[str, Layer | None, LayerTime | None]] = []
    for time in profile.layers if profile else ():
        waiting = details.get(time.name)
        joined.append((time.name, waiting.popleft() if waiting else None, time))
    # A layer that is left over stands where its kind does: by identity, since equal ones may have found their times.
    left = {id(layer) for waiting in details.values() for layer in waiting}
    joined += [(layer.name, layer, None) for layer in layers if id(layer) in left]
    count = profile.count if profile else None
    rows = [_row(index, *item, count if item[2] else None, source) for index, item in enumerate(joined)]
    return conform("layers", pa.Table.from_pylist(rows, schema=LAYERS)) if rows else LAYERS.empty_table()


def _row(
    index: int, name: str, layer: Layer | None, time: LayerTime | None, count: int | None, source: str
) -> dict[str, Any]:
    timed = {
        "layer_idx": index,
        "name": name,
        "calls": count,
        "mean_ns": _nanoseconds(time.average_ms) if time else None,
        "median_ns": _nanoseconds(time.median_ms) if time else None,
        "time_pct": time.percentage if time else None,
        "source": source,
    }
    return timed | (_described(layer) if layer else {})


def _described(layer: Layer) -> dict[str, Any]:
    return {
        "layer_type": layer.layer_type,
        "tactic": layer.tactic,
        "dtype": _compute_dtype(layer) or layer.output_dtype,
        "input_dtype": layer.input_dtype,
        "output_dtype": layer.output_dtype,
        "format": _formats(layer),
        "input_shapes": ", ".join(tensor.shape_text for tensor in layer.inputs) or None,
        "output_shapes": ", ".join(tensor.shape_text for tensor in layer.outputs) or None,
        "input_tensors": [tensor.name for tensor in layer.inputs],
        "output_tensors": [tensor.name for tensor in layer.outputs],
        "origin": list(layer.origin),
        "weight_bytes": layer.cost.weight_bytes,
        "bytes": layer.cost.bytes,
        "flops": layer.cost.flops,
    }


def _formats(layer: Layer) -> str | None:
    sides = [" + ".join(dict.fromkeys(tensor.words for tensor in side)) for side in (layer.inputs, layer.outputs)]
    return " → ".join(sides).strip() if any(sides) else None


def _nanoseconds(value_ms: float | None) -> int | None:
    return None if value_ms is None else round(value_ms * 1e6)
