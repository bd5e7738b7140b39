"""What is known of one layer, from a row of the table of layers. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

CONVERSIONS = "conversions"
"""Family of the layers that move or convert data and compute nothing: reformats, casts, shuffles, no-ops."""

_MYELIN = re.compile(r"^_+myl_(?P<steps>[A-Za-z]+)_myl\d*")
_STEP = re.compile(r"[A-Z][a-z]*")
_MYELIN_MOVES = frozenset(("Cast", "Move", "Copy", "Tran", "Resh", "Reshape", "Transpose", "Identity"))
"""Steps in the names that TensorRT's compiler gives its kernels which compute nothing: ``__myl_MoveCast_myl0_3``."""

_COMPILED = frozenset(("kgen", "fusion"))

_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (family, re.compile(pattern, re.IGNORECASE))
    for family, pattern in (
        ("constants", r"^constant"),
        (
            CONVERSIONS,
            r"reformat|reorder|^no_?op$|shuffle|^cast$|copy|^transpose|^reshape|^identity$|^(de)?quantize|"
            r"^(de|dynamic)quantizelinear|^flatten$|^(un)?squeeze$|^memcpy",
        ),
        ("attention", r"attention|mha|sdpa"),
        ("convolutions", r"conv"),
        ("matrix products", r"gemm|matmul|matrix_?multiply|fully_?connected|^fc$|myl_fc"),
        ("pooling", r"pool"),
        ("normalisation", r"norm|softmax"),
        (
            "pointwise",
            r"point_?wise|pwn|element_?wise|activation|kgen|fusion|relu|^add$|^mul$|sigmoid|scale|unary|clip",
        ),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """One layer of an engine.

    Attributes:
        index: Place in the order of execution.
        name: As the tool names it; not always unique.
        family: What it does: ``convolutions``, ``matrix products``, ``attention``, ``pooling``, ``normalisation``,
            ``pointwise``, ``conversions``, ``constants`` or ``other``.
        time_ns: Mean time in one inference; ``None`` where the profiler told none.
        dtype: What it computes in, else what it writes.
        layer_type: The tool's word.
        tactic: The kernel that was chosen.
        format: Memory formats, ``in → out``.
        input_shapes: For example ``8x64x56x56``.
        output_shapes: As ``input_shapes``.
        inputs: Names of the tensors it reads.
        outputs: Names of those it writes.
        origin: Nodes of the source model that were fused into it.
        weight_bytes: Size of its weights.
        bytes: Least memory traffic of one call.
        flops: Of one call; a multiply-add is two.
    """

    index: int
    name: str
    family: str
    time_ns: int | None = None
    dtype: str | None = None
    layer_type: str | None = None
    tactic: str | None = None
    format: str | None = None
    input_shapes: str | None = None
    output_shapes: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    weight_bytes: int | None = None
    bytes: int | None = None
    flops: int | None = None

    @property
    def is_conversion(self) -> bool:
        """Whether it only moves or converts data."""
        return self.family == CONVERSIONS

    @property
    def is_constant(self) -> bool:
        """Whether it only holds weights."""
        return self.family == "constants"


def layer_facts(rows: Iterable[Mapping[str, Any]]) -> tuple[LayerFacts, ...]:
    """Read rows of the table of layers (``tables.LAYERS``), for example ``table.to_pylist()``, ordered by index.

    A layer's time is that in one inference: its mean times the calls per inference, of which most layers have one.
    """
    every = sorted(rows, key=lambda row: (_integer(row.get("layer_idx")) or 0, str(row.get("name"))))
    calls = [count for row in every if (count := _integer(row.get("calls")))]
    inferences = median(calls) if calls else None
    return tuple(_layer(place, row, inferences) for place, row in enumerate(every))


def _layer(place: int, row: Mapping[str, Any], inferences: float | None) -> LayerFacts:
    name, layer_type = str(row.get("name") or ""), _text(row.get("layer_type"))
    return LayerFacts(
        index=place,
        name=name,
        family=family(name, layer_type),
        time_ns=_time_ns(row, inferences),
        dtype=_text(row.get("dtype")),
        layer_type=layer_type,
        tactic=_text(row.get("tactic")),
        format=_text(row.get("format")),
        input_shapes=_text(row.get("input_shapes")),
        output_shapes=_text(row.get("output_shapes")),
        inputs=_texts(row.get("input_tensors")),
        outputs=_texts(row.get("output_tensors")),
        origin=_texts(row.get("origin")),
        weight_bytes=_integer(row.get("weight_bytes")),
        bytes=_integer(row.get("bytes")),
        flops=_integer(row.get("flops")),
    )


def _time_ns(row: Mapping[str, Any], inferences: float | None) -> int | None:
    mean_ns, calls = _integer(row.get("mean_ns")), _integer(row.get("calls"))
    if mean_ns is None or not calls or not inferences:
        return mean_ns
    return round(mean_ns * calls / inferences)


def family(name: str, layer_type: str | None) -> str:
    """Return what a layer does, from its type, and from its name where the type is general or absent."""
    if match := _MYELIN.match(name):
        steps = _STEP.findall(match["steps"])
        if steps and all(step in _MYELIN_MOVES for step in steps):
            return CONVERSIONS
    # Kernels of TensorRT's compiler have one type for all that they do.
    words = f"{name} {layer_type}" if layer_type in _COMPILED else layer_type or name
    return next((found for found, pattern in _FAMILIES if pattern.search(words)), "other")


def _text(value: Any) -> str | None:  # noqa: ANN401 - a cell of any table
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - a list column: list, tuple, array or nothing
    if value is None or isinstance(value, str | float):
        return ()
    return tuple(str(item) for item in value)


def _integer(value: Any) -> int | None:  # noqa: ANN401 - a cell of any table; data frames write NaN for NULL
    if value is None or isinstance(value, str):
        return None
    return round(value) if math.isfinite(value) else None
