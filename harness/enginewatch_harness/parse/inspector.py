"""JSON of TensorRT's engine inspector (8.6, 10, 11, RTX; ``--exportLayerInfo`` or the Python API) → layers. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.parse.inspector_cost import UNKNOWN, Cost, layer_cost
from enginewatch_harness.parse.inspector_dtypes import read_dtype
from enginewatch_harness.parse.inspector_origin import read_origin
from enginewatch_harness.parse.inspector_tensors import Tensor, read_tensors

_NO_ORIGIN = frozenset(("Constant", "Reformat", "MyelinReformat", "NoOp"))
"""Types whose names are the builder's own: their metadata alone says what they were made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the inspector's JSON; all but the name is ``None`` or empty in a file of names only.

    Attributes:
        name: As the builder named it; not always unique.
        layer_type: The tool's word, for example ``CaskConvolution``, ``kgen``.
        tactic: Name of the kernel.
        input_dtype: Datatype of the first input.
        output_dtype: Datatype of the first output.
        signature: Type, tactic, formats and shapes: what a fingerprint is made of.
        inputs: Tensors that it reads.
        outputs: Tensors that it writes.
        origin: Nodes of the source model that were fused into it.
        cost: Its weights, least traffic and operations.
    """

    name: str
    layer_type: str | None = None
    tactic: str | None = None
    input_dtype: str | None = None
    output_dtype: str | None = None
    signature: str | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    origin: tuple[str, ...] = ()
    cost: Cost = UNKNOWN


def parse_layers(text: str) -> tuple[Layer, ...]:
    """Read layer information: detailed objects, or names where the engine was built without details.

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
        name = str(layer)
        return Layer(name=name, origin=read_origin(None, name))
    name, kind, tactic = _text(layer, "Name") or "", _text(layer, "LayerType"), _text(layer, "TacticName")
    inputs, outputs = read_tensors(layer.get("Inputs")), read_tensors(layer.get("Outputs"))
    origin = read_origin(_text(layer, "Metadata"), "" if kind in _NO_ORIGIN else name)
    return Layer(
        name=name,
        layer_type=kind,
        tactic=tactic,
        input_dtype=read_dtype(inputs[0].words) if inputs else None,
        output_dtype=read_dtype(outputs[0].words) if outputs else None,
        signature=json.dumps([kind, tactic, _structure(inputs), _structure(outputs)]),
        inputs=inputs,
        outputs=outputs,
        origin=origin,
        cost=layer_cost(layer, kind, inputs, outputs, nodes=len(origin)),
    )


def _text(layer: dict[str, Any], key: str) -> str | None:
    value = layer.get(key)
    return value if isinstance(value, str) else None


def _structure(tensors: tuple[Tensor, ...]) -> list[list[Any]]:
    return [[tensor.told_format, tensor.told_shape] for tensor in tensors]
