"""Tensors in the JSON of TensorRT's engine inspector. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from enginewatch_harness.parse.inspector_dtypes import MAX_INT64, tensor_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output of a layer.

    Attributes:
        name: As the builder named it.
        words: Memory format and datatype in the tool's words; empty where it tells none.
        shape: Dimensions, -1 where dynamic and not resolved; ``None`` where they are not told.
        told_format: The format as found, for the fingerprint.
        told_shape: The shape as found, for the fingerprint.
    """

    name: str
    words: str
    shape: tuple[int, ...] | None
    told_format: Any = None
    told_shape: Any = None

    @property
    def elements(self) -> int | None:
        """Number of values; ``None`` where the shape is unknown or dynamic."""
        if self.shape is None or any(size < 0 for size in self.shape):
            return None
        return math.prod(self.shape)

    @property
    def bytes(self) -> int | None:
        """What it takes in memory, padded channels included; ``None`` where that is unknown."""
        return tensor_bytes(self.shape, self.words)

    @property
    def shape_text(self) -> str:
        """Its shape as ``8x64x56x56``, ``?`` for a dimension that is not known; ``1`` for a scalar."""
        if self.shape is None:
            return "?"
        return "x".join("?" if size < 0 else str(size) for size in self.shape) or "1"


def read_tensors(value: Any) -> tuple[Tensor, ...]:  # noqa: ANN401 - any JSON value
    """Read ``Inputs`` or ``Outputs`` of a layer; what is not a tensor is left out."""
    return tuple(_read(item) for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _read(item: dict[str, Any]) -> Tensor:
    told = item.get("Format/Datatype")
    if told is None:  # some writers tell the two apart
        parts = [part for key in ("Format", "Datatype") if isinstance(part := item.get(key), str)]
        told = " ".join(parts) if parts else None
    return Tensor(
        name=str(item.get("Name", "")),
        words=str(told) if told is not None else "",
        shape=read_shape(item.get("Dimensions")),
        told_format=told,
        told_shape=item.get("Dimensions"),
    )


def read_shape(value: Any) -> tuple[int, ...] | None:  # noqa: ANN401 - any JSON value
    """Return dimensions, -1 where dynamic; ``None`` for what is no list of them."""
    if not isinstance(value, list) or not all(type(size) is int and -1 <= size <= MAX_INT64 for size in value):
        return None
    return tuple(value)
