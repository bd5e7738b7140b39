"""Layers of a TensorRT engine: inspector JSON joined with profile times, realised precision, fingerprint. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import LAYERS, conform
from enginewatch_harness.parse.trtexec_json import LayerTime, Profile

_DTYPES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"\bB(?:F|Float)16\b", "bf16"),
        (r"\b(?:FP16|Half)\b", "fp16"),
        (r"\b(?:FP8|Float8)\b", "fp8"),
        (r"\b(?:FP4|Float4)\b", "fp4"),
        (r"\b(?:FP32|Float)\b", "fp32"),
        (r"\bINT8\b", "int8"),
        (r"\bINT4\b", "int4"),
        (r"\bINT32\b", "int32"),
        (r"\bINT64\b", "int64"),
        (r"\bUINT8\b", "uint8"),
        (r"\bBOOL\b", "bool"),
    )
)
"""Words of ``Format/Datatype``: ``Row major linear FP16 format`` in 8.6, ``Half`` and the like in 10."""

_COMPUTE = re.compile(r"conv|gemm|matmul|matrixmultiply|matrix_multiply|attention|mha|rnn", re.IGNORECASE)
_NOT_COMPUTE = re.compile(r"reformat|shuffle|constant|noop", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the inspector's JSON; all but the name is ``None`` in a file of names only."""

    name: str
    layer_type: str | None = None
    tactic: str | None = None
    input_dtype: str | None = None
    output_dtype: str | None = None
    signature: str | None = None


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read ``--exportLayerInfo``: detailed objects, or names where the engine was built without details.

    Raises:
        MeasurementError: It is not such a file.
    """
    try:
        content = json.loads(text, strict=False)  # metadata holds raw 0x1e characters (recorded from 8.6)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"the layer information is not JSON: {error}", code="no_samples") from error
    layers = content.get("Layers") if isinstance(content, dict) else None
    if not isinstance(layers, list):
        raise MeasurementError("the layer information has no list of layers", code="no_samples")
    return tuple(_read_layer(layer) for layer in layers)


def _read_layer(layer: Any) -> Layer:  # noqa: ANN401 - any JSON value
    if not isinstance(layer, dict):
        return Layer(name=str(layer))
    kind = _text(layer, "LayerType")
    tactic = _text(layer, "TacticName")
    inputs, outputs = _tensors(layer, "Inputs"), _tensors(layer, "Outputs")
    return Layer(
        name=_text(layer, "Name") or "",
        layer_type=kind,
        tactic=tactic,
        input_dtype=_dtype(inputs),
        output_dtype=_dtype(outputs),
        signature=json.dumps([kind, tactic, [_structure(item) for item in inputs], [_structure(i) for i in outputs]]),
    )


def _text(layer: dict[str, Any], key: str) -> str | None:
    value = layer.get(key)
    return value if isinstance(value, str) else None


def _tensors(layer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = layer.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _structure(tensor: dict[str, Any]) -> list[Any]:
    return [tensor.get("Format/Datatype"), tensor.get("Dimensions")]


def _dtype(tensors: list[dict[str, Any]]) -> str | None:
    words = str(tensors[0].get("Format/Datatype", "")) if tensors else ""
    return next((name for pattern, name in _DTYPES if pattern.search(words)), None)


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
    if not _COMPUTE.search(kind) or _NOT_COMPUTE.search(kind) or layer.input_dtype is None:
        return None
    return "tf32" if layer.input_dtype == "fp32" and "tf32" in (layer.tactic or "").lower() else layer.input_dtype


def layers_table(profile: Profile | None, layers: Sequence[Layer]) -> pa.Table:
    """Join times and details by name into a table of ``tables.LAYERS``.

    Rows come in the profile's order, then layers without times. Either side may be empty; Myelin's names do not
    always match, and their rows then lack the other side.
    """
    details = {layer.name: layer for layer in layers}
    timed = profile.layers if profile else ()
    count = profile.count if profile else None
    names = {layer.name for layer in timed}
    rows = [_row(index, item.name, details.get(item.name), item, count) for index, item in enumerate(timed)]
    rest = [layer for layer in layers if layer.name not in names]
    rows += [_row(len(rows) + index, layer.name, layer, None, None) for index, layer in enumerate(rest)]
    return conform("layers", pa.Table.from_pylist(rows)) if rows else LAYERS.empty_table()


def _row(index: int, name: str, layer: Layer | None, time: LayerTime | None, count: int | None) -> dict[str, Any]:
    return {
        "layer_idx": index,
        "name": name,
        "layer_type": layer.layer_type if layer else None,
        "tactic": layer.tactic if layer else None,
        "dtype": (_compute_dtype(layer) or layer.output_dtype) if layer else None,
        "calls": count,
        "mean_ns": _nanoseconds(time.average_ms) if time else None,
        "median_ns": _nanoseconds(time.median_ms) if time else None,
        "time_pct": time.percentage if time else None,
        "source": "trtexec",
    }


def _nanoseconds(value_ms: float | None) -> int | None:
    return None if value_ms is None else round(value_ms * 1e6)
