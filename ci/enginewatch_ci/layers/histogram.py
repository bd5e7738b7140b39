"""Which precision an engine really computes in, and what it pays for converting between them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from enginewatch_ci.layers.facts import LayerFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionShare:
    """What runs in one dtype; conversions and constants are not counted.

    Attributes:
        dtype: For example ``fp16``; ``None`` where the tool does not tell.
        layers: Number of layers.
        layers_pct: Their share of all.
        time_ns: Their time in one inference; ``None`` where no layer was timed.
        time_pct: Share of the time of all layers that compute.
        flops: Their operations; ``None`` where none of them is known.
        flops_pct: Share of the operations of all layers where they are known.
    """

    dtype: str | None
    layers: int
    layers_pct: float
    time_ns: int | None
    time_pct: float | None
    flops: int | None
    flops_pct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionCost:
    """What an engine spends on layers that only move or convert data.

    Attributes:
        layers: Number of such layers.
        timed_layers: Those that took any time.
        time_ns: Their time in one inference; ``None`` where no layer was timed.
        time_pct: Share of the time of all layers.
        constant_layers: Those of the timed ones that convert constants, in every inference anew.
        constant_ns: Time of these.
    """

    layers: int
    timed_layers: int
    time_ns: int | None
    time_pct: float | None
    constant_layers: int
    constant_ns: int


def precision_histogram(layers: Sequence[LayerFacts]) -> tuple[PrecisionShare, ...]:
    """Return the dtypes that an engine computes in, by time, then operations, then number of layers."""
    working = [layer for layer in layers if not (layer.is_conversion or layer.is_constant)]
    time_ns, flops = _sum(layer.time_ns for layer in working), _sum(layer.flops for layer in working)
    shares = []
    for dtype in {layer.dtype for layer in working}:
        mine = [layer for layer in working if layer.dtype == dtype]
        spent, done = _sum(layer.time_ns for layer in mine), _sum(layer.flops for layer in mine)
        shares.append(
            PrecisionShare(
                dtype=dtype,
                layers=len(mine),
                layers_pct=100 * len(mine) / len(working),
                time_ns=spent,
                time_pct=_share(spent, time_ns),
                flops=done,
                flops_pct=_share(done, flops),
            )
        )
    return tuple(
        sorted(shares, key=lambda item: (-(item.time_ns or 0), -(item.flops or 0), -item.layers, item.dtype or "~"))
    )


def dominant_dtype(layers: Sequence[LayerFacts]) -> str | None:
    """Return the dtype of most of the operations, or of most of the time where those are unknown."""
    shares = [item for item in precision_histogram(layers) if item.dtype is not None]
    if not shares:
        return None
    return max(shares, key=lambda item: (item.flops or 0, item.time_ns or 0, item.layers)).dtype


def conversion_cost(layers: Sequence[LayerFacts]) -> ConversionCost:
    """Return what reformats, casts, shuffles and no-ops take."""
    mine, fixed = [layer for layer in layers if layer.is_conversion], _converts_constants(layers)
    total = _sum(layer.time_ns for layer in layers)
    spent = None if total is None else (_sum(layer.time_ns for layer in mine) or 0)
    return ConversionCost(
        layers=len(mine),
        timed_layers=sum(bool(layer.time_ns) for layer in mine),
        time_ns=spent,
        time_pct=_share(spent, total),
        constant_layers=len(fixed),
        constant_ns=sum(layer.time_ns or 0 for layer in fixed),
    )


def _converts_constants(layers: Sequence[LayerFacts]) -> list[LayerFacts]:
    """Return the timed conversions that read nothing but constants, through chains in order of execution."""
    constants = {name for layer in layers if layer.is_constant for name in layer.outputs}
    found = []
    for layer in sorted(layers, key=lambda layer: layer.index):
        if layer.is_conversion and layer.inputs and constants.issuperset(layer.inputs):
            constants.update(layer.outputs)
            if layer.time_ns:
                found.append(layer)
    return found


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole
