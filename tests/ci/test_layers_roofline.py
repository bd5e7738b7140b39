"""Precision, conversions and roofline of one engine: recordings of TensorRT 8.6 and hand-made layers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_ci.layers.facts import LayerFacts
from enginewatch_ci.layers.histogram import conversion_cost, dominant_dtype, precision_histogram
from enginewatch_ci.layers.roofline import layer_roofline, roofline
from enginewatch_db.gpus import find_gpu


def test_precision_histogram_and_conversions(engines):
    (share,) = precision_histogram(engines["fp16-b8"])
    assert (share.dtype, share.layers, share.layers_pct, share.time_pct, share.flops_pct) == ("fp16", 56, 100, 100, 100)
    cost = conversion_cost(engines["fp16-b8"])
    assert (cost.layers, cost.timed_layers) == (52, 49)
    assert (cost.constant_layers, cost.constant_ns) == (47, 238_601)
    assert cost.time_pct == pytest.approx(27.9, abs=0.05)
    assert share.time_ns + cost.time_ns == sum(layer.time_ns for layer in engines["fp16-b8"])
    assert precision_histogram(()) == ()
    assert conversion_cost(()).time_ns is None
    assert dominant_dtype(()) is None


def test_conversions_of_constants_are_told_apart():
    def layer(index, kind, reads, writes):
        return LayerFacts(index=index, name=str(index), family=kind, time_ns=10, inputs=(*reads,), outputs=(*writes,))

    layers = [
        layer(2, "conversions", "b", "c"),
        layer(0, "constants", "", "a"),
        layer(1, "conversions", "a", "b"),
        layer(3, "conversions", "x", "y"),
        layer(4, "conversions", "cx", "z"),
        layer(5, "conversions", "", "w"),
        layer(6, "convolutions", "c", "v"),
    ]
    found = conversion_cost(layers)
    assert (found.layers, found.time_ns, found.constant_layers, found.constant_ns) == (5, 50, 2, 20)


def gpu_layer(**facts):
    values = {"index": 0, "name": "l", "family": "convolutions", "dtype": "fp16", "time_ns": 10_000, **facts}
    return LayerFacts(**values)


def test_the_roofline_says_what_bounds_a_layer():
    gpu = find_gpu("NVIDIA H200")
    compute = layer_roofline(gpu_layer(flops=989_400_000_000, bytes=10**6, time_ns=1_500_000), gpu)
    assert compute.attainable_ns == pytest.approx(1e6)
    assert compute.achieved_pct == pytest.approx(200 / 3)
    assert compute.attainable_flop_s == pytest.approx(compute.peak_flop_s)
    assert compute.bound == "compute"
    memory = layer_roofline(gpu_layer(flops=10**9, bytes=480_000_000, time_ns=150_000), gpu)
    assert memory.attainable_ns == pytest.approx(100_000)
    assert memory.attainable_flop_s == pytest.approx(10**9 / 480_000_000 * 4.8e12)
    assert (memory.bound, memory.may_stay_in_cache) == ("memory", False)
    assert layer_roofline(gpu_layer(flops=10**9, bytes=480_000_000, time_ns=300_000), gpu).bound == "latency"
    small = layer_roofline(gpu_layer(flops=10**6, bytes=10**5, time_ns=2_000), gpu)
    assert (small.bound, small.may_stay_in_cache) == ("latency", True)
    tiny = layer_roofline(gpu_layer(flops=10**6, bytes=7_680_000, time_ns=3_000), gpu)  # 2 µs of traffic at 80 %
    assert tiny.bound == "latency"
    copy = layer_roofline(gpu_layer(family="conversions", bytes=480_000_000, time_ns=150_000), gpu)
    assert (copy.bound, copy.intensity, copy.achieved_flop_s) == ("memory", 0, None)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"flops": 5}, "its memory traffic is not known"),
        ({"bytes": 5}, "its operations are not known"),
        ({"bytes": 5, "flops": 5, "dtype": "fp4"}, "the peak of H200 SXM in fp4 is not known"),
        ({"bytes": 5, "flops": 5, "dtype": None}, "the peak of H200 SXM in an unknown dtype is not known"),
    ],
)
def test_what_cannot_be_known_has_a_reason(facts, reason):
    found = layer_roofline(gpu_layer(**facts), find_gpu("NVIDIA H200"))
    assert (found.bound, found.reason, found.achieved_pct) == ("unknown", reason, None)


def test_the_tactic_tells_of_fp16_accumulation():
    gpu = find_gpu("NVIDIA GeForce RTX 4090")
    slow, fast = (
        layer_roofline(gpu_layer(flops=10**9, bytes=10, tactic=f"sm80_xmma_gemm_f16f16_{word}_f16_nn"), gpu)
        for word in ("f16f32", "f16f16")
    )
    assert fast.peak_flop_s == pytest.approx(2 * slow.peak_flop_s, rel=0.01)


def test_the_recordings_under_the_roofline(engines):
    found = roofline(engines["fp32-b8"], "NVIDIA H200")
    assert sum(found.bound_time_pct.values()) == pytest.approx(100)
    assert {item.bound for item in found.layers} >= {"compute", "latency"}
    assert all(item.achieved_pct < 105 for item in found.layers if item.achieved_pct is not None)
    assert roofline(engines["fp32-b8"], "AMD EPYC 9654").reason == "no peaks are known of AMD EPYC 9654"
    assert roofline(engines["fp32-b8"], None).reason == "the device is not known"
    assert roofline((), "NVIDIA H200").reason == "no layer has a time"


@settings(max_examples=50)
@given(
    st.integers(1, 10**12), st.integers(1, 10**15), st.integers(1, 10**12), st.sampled_from(["fp16", "int8", "fp32"])
)
def test_no_roof_is_above_the_peaks(size, flops, time_ns, dtype):
    gpu = find_gpu("NVIDIA H200")
    found = layer_roofline(gpu_layer(flops=flops, bytes=size, time_ns=time_ns, dtype=dtype), gpu)
    assert found.attainable_flop_s <= gpu.peaks[dtype] * 1.0001
    assert found.attainable_flop_s <= found.intensity * gpu.dram_bytes_per_s * 1.0001
    assert found.achieved_pct == pytest.approx(100 * found.achieved_flop_s / found.attainable_flop_s)
