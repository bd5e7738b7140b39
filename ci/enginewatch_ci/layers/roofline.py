"""How near each layer is to what the GPU could do: arithmetic intensity, attainable rate, what bounds it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from enginewatch_ci.layers.facts import LayerFacts
from enginewatch_db.gpus import GpuSpec, find_gpu

Bound = Literal["memory", "compute", "latency", "unknown"]

PRACTICAL_SHARE = 0.8
"""Share of a peak that good kernels reach: DCGM's guide and NVIDIA's aiconfigurator both name about 80 %."""

LAUNCH_NS = 3_000
"""Constant time of a kernel that no work explains (NVIDIA's aiconfigurator: 3 µs per operation)."""

LATENCY_FACTOR = 2.0
"""A layer that takes longer than this times what traffic and arithmetic need is bound by neither."""

_WORKING_SET = 2
"""Data of less than the L2 cache over this may never reach the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRoofline:
    """One layer under the roofline; what cannot be known is ``None`` and ``reason`` says why.

    Attributes:
        layer: The layer.
        intensity: Operations per byte of least traffic.
        achieved_flop_s: Operations per second that it reached.
        peak_flop_s: Dense peak of its dtype.
        attainable_flop_s: The lower of that peak and intensity times the memory's peak.
        attainable_ns: Shortest time by both peaks.
        achieved_pct: Share of the attainable rate that it reached; over 100 where data stayed in the cache.
        bound: What it waits for.
        may_stay_in_cache: Whether its data fits the L2 cache, so that the memory's peak does not bind it.
        reason: Why something is missing.
    """

    layer: LayerFacts
    intensity: float | None = None
    achieved_flop_s: float | None = None
    peak_flop_s: float | None = None
    attainable_flop_s: float | None = None
    attainable_ns: float | None = None
    achieved_pct: float | None = None
    bound: Bound = "unknown"
    may_stay_in_cache: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """All layers of an engine that take time, under the roofline of one GPU.

    Attributes:
        gpu: The peaks; ``None`` where the device has none in the table.
        layers: One per layer with a time above zero.
        bound_time_pct: Bound → share of the layers' time.
        reason: Why there is no roofline.
    """

    gpu: GpuSpec | None
    layers: tuple[LayerRoofline, ...]
    bound_time_pct: dict[Bound, float]
    reason: str | None = None


def roofline(layers: Sequence[LayerFacts], device: str | None) -> Roofline:
    """Place layers under the roofline of a device.

    Args:
        layers: Layers of one engine.
        device: Product name as in the identity of a run, for example ``NVIDIA H200``.
    """
    gpu = find_gpu(device) if device else None
    if gpu is None:
        why = f"no peaks are known of {device}" if device else "the device is not known"
        return Roofline(gpu=None, layers=(), bound_time_pct={}, reason=why)
    placed = tuple(layer_roofline(layer, gpu) for layer in layers if layer.time_ns)
    whole = sum(item.layer.time_ns or 0 for item in placed)
    shares: dict[Bound, float] = {}
    for item in placed:
        shares[item.bound] = shares.get(item.bound, 0.0) + 100 * (item.layer.time_ns or 0) / whole
    reason = None if placed else "no layer has a time"
    return Roofline(gpu=gpu, layers=placed, bound_time_pct=shares, reason=reason)


def layer_roofline(layer: LayerFacts, gpu: GpuSpec) -> LayerRoofline:
    """Place one layer under the roofline (Williams, Waterman and Patterson, CACM 52(4), 2009).

    ``attainable = min(peak, intensity × memory peak)``. The bound is the larger of traffic and arithmetic, each at 80 %
    of its peak; ``latency`` where the layer takes more than twice the larger one, or where both are below a launch.
    """
    bandwidth, peak = gpu.dram_bytes_per_s, peak_flop_s(layer, gpu)
    moving = layer.is_conversion or layer.flops == 0
    if layer.bytes is None or not layer.bytes:
        return LayerRoofline(layer=layer, peak_flop_s=peak, reason="its memory traffic is not known")
    if bandwidth is None:
        return LayerRoofline(layer=layer, peak_flop_s=peak, reason=f"the memory's peak of {gpu.name} is not known")
    memory_ns = 1e9 * layer.bytes / bandwidth
    fits = None if gpu.l2_bytes is None else layer.bytes * _WORKING_SET <= gpu.l2_bytes
    if layer.flops is None and not moving:
        return LayerRoofline(
            layer=layer, peak_flop_s=peak, may_stay_in_cache=fits, reason="its operations are not known"
        )
    flops = 0 if moving else layer.flops or 0
    if flops and peak is None:
        why = f"the peak of {gpu.name} in {layer.dtype or 'an unknown dtype'} is not known"
        return LayerRoofline(layer=layer, intensity=flops / layer.bytes, may_stay_in_cache=fits, reason=why)
    compute_ns = 1e9 * flops / peak if flops and peak else 0.0
    needed_ns, time_ns = max(memory_ns, compute_ns), layer.time_ns
    return LayerRoofline(
        layer=layer,
        intensity=flops / layer.bytes,
        achieved_flop_s=1e9 * flops / time_ns if time_ns and flops else None,
        peak_flop_s=peak,
        attainable_flop_s=1e9 * flops / needed_ns if flops else None,
        attainable_ns=needed_ns,
        achieved_pct=100 * needed_ns / time_ns if time_ns else None,
        bound=_bound(memory_ns / PRACTICAL_SHARE, compute_ns / PRACTICAL_SHARE, time_ns),
        may_stay_in_cache=fits,
    )


def _bound(memory_ns: float, compute_ns: float, time_ns: int | None) -> Bound:
    needed_ns = max(memory_ns, compute_ns)
    if time_ns is None:
        return "unknown"
    if needed_ns < LAUNCH_NS or time_ns > LATENCY_FACTOR * needed_ns:
        return "latency"
    return "memory" if memory_ns >= compute_ns else "compute"


def peak_flop_s(layer: LayerFacts, gpu: GpuSpec) -> float | None:
    """Return the dense peak of a layer's dtype; that of fp16 accumulation where the tactic's name tells it."""
    if layer.dtype == "fp16" and gpu.fp16_accumulate_peak and "f16f16_f16f16" in (layer.tactic or ""):
        return gpu.fp16_accumulate_peak
    return gpu.peaks.get(layer.dtype or "")
