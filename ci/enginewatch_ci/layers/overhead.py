"""What a layer profiler itself costs: an equal amount for each layer, found from the time without it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from enginewatch_ci.layers.facts import LayerFacts

MAX_COST_NS = 10_000.0
"""More than this for a layer is no profiler: another clock, batch or engine was profiled. TensorRT 8.6 on an H200 cost
2.3 µs a layer in fp32 and fp16 engines of ResNet-50, and 3.2 and 3.0 µs in fp16 and int8 engines of another ResNet.
"""


SAME_COST = 1.5
"""Costs of two engines may differ by this factor: their layers differ in how much a synchronisation interrupts."""


def without_profiler(layers: Sequence[LayerFacts], total_ns: int | None) -> tuple[tuple[LayerFacts, ...], float]:
    """Return the layers with the profiler's own cost taken out of their times, and that cost per layer in ns.

    A profiler synchronises after each layer, which costs each about the same, so an engine of more and smaller layers
    looks slower under it than it is. The cost ``c`` solves ``sum(max(t - c, 0)) = total``. Layers are left as they
    are, with a cost of 0, where their sum is not above the total, or ``c`` would be above ``MAX_COST_NS``.

    Args:
        layers: Layers of one engine, with times from a profiler.
        total_ns: Time of one inference without it; ``None`` where unknown.
    """
    times = sorted(layer.time_ns for layer in layers if layer.time_ns)
    if total_ns is None or total_ns <= 0 or sum(times) <= total_ns:
        return tuple(layers), 0.0
    cost = _cost_ns(times, total_ns)
    if cost > MAX_COST_NS:
        return tuple(layers), 0.0
    return tuple(
        layer if not layer.time_ns else replace(layer, time_ns=round(max(layer.time_ns - cost, 0.0)))
        for layer in layers
    ), cost


def agree(base_cost_ns: float, cand_cost_ns: float) -> bool:
    """Return whether what a profiler cost a layer of two engines can be one and the same tool's cost.

    It is a property of profiler and GPU, not of the engine: recorded pairs agree within 8 %. One that is much larger
    means that the profile and the measured time of that engine do not belong together.
    """
    least, most = sorted((base_cost_ns, cand_cost_ns))
    return most <= SAME_COST * least or most == 0


def _cost_ns(ascending: Sequence[int], total_ns: int) -> float:
    """Return ``c`` of ``sum(max(t - c, 0)) = total``: layers below it count nothing, the others share the rest."""
    left = sum(ascending)
    for place, time_ns in enumerate(ascending):
        cost = (left - total_ns) / (len(ascending) - place)
        if cost <= time_ns:
            return cost
        left -= time_ns
    return float(ascending[-1])
