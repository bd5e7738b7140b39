"""The trtexec parsers on text of TensorRT 10 and 11 (lines as documented), on made-up values, and on garbage."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.errors import FAILURE_CODES, BackendError, MeasurementError
from enginewatch_db.tables import LAYERS
from enginewatch_harness.parse.trtexec_failures import FAILURES, explain_failure, signal_number
from enginewatch_harness.parse.trtexec_json import parse_profile, parse_times, summarise_times
from enginewatch_harness.parse.trtexec_layers import Layer, layers_table, parse_layers, realised_precision
from enginewatch_harness.parse.trtexec_lines import decode_version, find_banners, split_lines
from enginewatch_harness.parse.trtexec_log import judge_run, parse_log
from enginewatch_harness.parse.trtexec_summary import tool_percentile

STAMP = "[07/07/2026-02:10:45]"
NAMES = ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")


def informative(*texts: str) -> bytes:
    return "".join(f"{STAMP} [I] {text}\n" for text in texts).encode()


def warning(*texts: str) -> bytes:
    return "".join(f"{STAMP} [W] {text}\n" for text in texts).encode()


@pytest.mark.parametrize(
    ("digits", "version"),
    [
        ("8502", "8.5.2"),
        ("8600", "8.6.0"),
        ("9300", "9.3.0"),
        ("100001", "10.0.1"),
        ("101303", "10.13.3"),
        ("101601", "10.16.1"),
        ("110100", "11.1.0"),
    ],
)
def test_versions_are_decoded(digits, version):
    assert decode_version(digits) == version


@given(st.integers(10, 20), st.integers(0, 99), st.integers(0, 99))
def test_versions_round_trip(major, minor, patch):
    assert decode_version(str(major * 10_000 + minor * 100 + patch)) == f"{major}.{minor}.{patch}"


def test_banners_of_every_age():
    text = (
        "user@host:~$ &&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=a b.onnx\n"
        "&&&& PASSED TensorRT.trtexec [TensorRT v101601] [b11] # trtexec\n"
        "&&&& FAILED TensorRT.trtexec # ./trtexec --old\n"
        "&&&& WAIVED tensorrt_rtx [TensorRT v10500] # tensorrt_rtx --onnx=m.onnx\n"
    )
    found = [(item.state, item.tool, item.version, item.build, item.command) for item in find_banners(text)]
    assert found == [
        ("RUNNING", "TensorRT.trtexec", "8.5.2", None, "trtexec --onnx=a b.onnx"),
        ("PASSED", "TensorRT.trtexec", "10.16.1", 11, "trtexec"),
        ("FAILED", "TensorRT.trtexec", None, None, "./trtexec --old"),
        ("WAIVED", "tensorrt_rtx", "1.5.0", None, "tensorrt_rtx --onnx=m.onnx"),
    ]


def test_lines_of_every_shape():
    text = (
        f"[INFO] {STAMP} [W] [TRT] inside a wrapper\n[TRT] [E] from Python\n)\n{STAMP} [V] \n{STAMP} [F] [TRT] fatal\n"
    )
    found = [(line.severity, line.library, line.text) for line in split_lines(text)]
    assert found == [
        ("W", True, "inside a wrapper"),
        ("E", True, "from Python"),
        (None, False, ")"),
        ("V", False, ""),
        ("F", True, "fatal"),
    ]


def test_build_lines_of_tensorrt_10():
    log = parse_log(
        b"&&&& RUNNING TensorRT.trtexec [TensorRT v101601] [b11] # trtexec\n"
        + informative(
            "=== Build Options ===",
            "Precision: FP32+FP16",
            "BuilderOptimizationLevel: -1",
            "timingCacheMode: global",
            "=== Device Information ===",
            "Available Devices: ",
            '  Device 0: "NVIDIA H100 PCIe" UUID: GPU-0001',
            "Selected Device: NVIDIA H100 PCIe",
            "Selected Device ID: 0",
            "Selected Device UUID: GPU-0001",
            "Compute Capability: 9.0",
            "SMs: 114",
            "Device Global Memory: 81081 MiB",
            "Shared Memory per SM: 228 KiB",
            "Memory Bus Width: 5120 bits (ECC enabled)",
            "Application Compute Clock Rate: 1.755 GHz",
            "Application Memory Clock Rate: 1.593 GHz",
            "TensorRT version: 10.16.1",
            "Finished parsing network model. Parse time: 0.0170852",
            "[TRT] Total Host Persistent Memory: 18896 bytes",
            "[TRT] Total Device Persistent Memory: 0 bytes",
            "[TRT] Max Scratch Memory: 4608 bytes",
            "[TRT] Total Activation Memory: 1024 bytes",
            "[TRT] Total Weights Memory: 13100672 bytes",
            "[TRT] Engine generation completed in 7.41113 seconds.",
            "[TRT] [MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 0 MiB, GPU 13 MiB",
            "Engine built in 8.09138 sec.",
            "Created engine with size: 12.5744 MiB",
            "Engine deserialized in 0.00676279 sec.",
            "Created execution context with device memory size: 0.119629 MiB",
        )
    )
    assert log.version == "10.16.1"
    build = log.build
    assert (build.precision, build.optimization_level, build.timing_cache) == ("FP32+FP16", None, "global")
    assert (build.parse_time_s, build.build_time_s, build.generation_time_s) == (0.0170852, 8.09138, 7.41113)
    assert (build.engine_size_mib, build.context_memory_mib) == (12.5744, 0.119629)
    assert (build.peak_cpu_mib, build.peak_gpu_mib) == (0, 13)
    assert (build.host_persistent_bytes, build.device_persistent_bytes) == (18896, 0)
    assert (build.scratch_bytes, build.activation_bytes, build.weights_bytes) == (4608, 1024, 13100672)
    device = log.device
    assert (device.name, device.uuid, device.sms, device.memory_mib) == ("NVIDIA H100 PCIe", "GPU-0001", 114, 81081)
    assert (device.compute_clock_mhz, device.memory_clock_mhz, device.memory_bus_bits) == (1755, 1593, 5120)


def test_effective_options_of_tensorrt_11():
    log = parse_log(
        informative(
            "=== Inference Options ===",
            "Iterations: 10",
            "Duration: 3s (+ 200ms warm up)",
            "Inference Streams: 2",
            "Data transfers: Disabled",
            "Spin-wait: Enabled",
            "Multithreading: Disabled",
            "CUDA Graph: Enabled",
            "Separate profiling: Enabled",
            "=== Reporting Options ===",
            "Profile: Disabled",
        )
    )
    assert log.options.effective() == {"cuda_graph": True, "spin_wait": True, "data_transfers": False, "streams": 2}
    assert (log.options.warmup_ms, log.options.duration_s, log.options.iterations) == (200, 3, 10)
    assert log.options.separate_profile is True
    assert log.options.profile is False


def test_options_that_were_not_printed_are_absent():
    assert parse_log(b"").options.effective() == {}


def codes(stderr: bytes, stdout: bytes = b"", cov_pct: float | None = None) -> dict[str, str]:
    return {reason.code: reason.detail for reason in parse_log(stdout, stderr).reasons(cov_pct)}


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        ("* Throughput may be bound by Enqueue Time rather than GPU Compute and", "enqueue_bound", "0.8"),
        ("* Throughput may be bound by host-to-device transfers for the inputs rather", "transfer_bound", "inputs"),
        ("* Throughput may be bound by device-to-host transfers for the outputs rather", "transfer_bound", "outputs"),
        ("* GPU compute time is unstable, with coefficient of variance = 6.58751%.", "gpu_time_unstable", "6.59 %"),
        ("* Multiple inference streams are used. Latencies may not be accurate", "multiple_streams", ""),
        (
            "CUDA graph capture failed. The inference will be launched without using CUDA graph.",
            "cuda_graph_failed",
            "without",
        ),
        (
            "Dynamic dimensions required for input: x, but no shapes were provided. "
            "Automatically overriding shape to: 1x1x28x28",
            "shape_overridden",
            "x became 1x1x28x28",
        ),
        (
            "[TRT] Skipping tactic 0x0000 due to insufficient memory on requested size of 9 detected for tactic 1.",
            "tactics_skipped_for_memory",
            "1 tactics skipped",
        ),
    ],
)
def test_warnings_become_reasons(text, code, detail):
    found = codes(warning(text))
    assert list(found) == [code]
    assert detail in found[code]


def test_both_directions_of_transfer_make_one_reason():
    found = codes(warning("may be bound by host-to-device transfers", "may be bound by device-to-host transfers"))
    assert found == {"transfer_bound": "inputs: host to device; outputs: device to host"}


def test_one_threshold_of_stability_for_all_versions():
    said = warning("* GPU compute time is unstable, with coefficient of variance = 1.7%.")
    assert codes(said) == {}, "10.12 and earlier warn above 1 %"
    assert codes(b"", cov_pct=2.6) == {"gpu_time_unstable": "coefficient of variation 2.6 %"}
    assert codes(said, cov_pct=2.4) == {}


def test_a_profiler_in_the_measurement_is_told():
    text = (
        "The e2e network timing is not reported since it is inaccurate due to the extra synchronizations "
        "when the profiler is enabled."
    )
    assert codes(b"", informative(text)) == {"profiler_on": "no separate profile run"}
    options = informative(
        "=== Inference Options ===", "Separate profiling: Disabled", "=== Reporting Options ===", "Profile: Enabled"
    )
    assert codes(b"", options) == {"profiler_on": "no separate profile run"}


def test_several_streams_without_the_warning():
    assert "multiple_streams" in codes(b"", informative("=== Inference Options ===", "Inference Streams: 4"))


values = st.floats(1e-5, 1e6)


@st.composite
def summaries(draw):
    levels = sorted(draw(st.sets(st.integers(0, 100) | st.sampled_from([99.9, 99.99]), min_size=1, max_size=5)))
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    return {name: ([draw(values) for _ in range(4)], {level: draw(values) for level in levels}) for name in names}


@given(summaries(), values, st.integers(0, 10**9))
def test_a_log_round_trips(lines, throughput, queries):
    texts = [f"Timing trace has {queries} queries over 3.0 s", f"Throughput: {throughput:g} qps"]
    for name, ((low, high, mean, median), percentiles) in lines.items():
        tail = ", ".join(f"percentile({level:g}%) = {value:g} ms" for level, value in percentiles.items())
        texts.append(f"{name}: min = {low:g} ms, max = {high:g} ms, mean = {mean:g} ms, median = {median:g} ms, {tail}")
    summary = parse_log(informative("=== Performance summary ===", *texts)).summary
    assert summary.queries == queries
    assert summary.throughput_qps == pytest.approx(throughput, rel=1e-5)
    assert set(summary.latencies) == set(lines)
    for name, ((low, high, mean, median), percentiles) in lines.items():
        found = summary.latencies[name]
        assert [found.min_ms, found.max_ms, found.mean_ms, found.median_ms] == pytest.approx(
            [low, high, mean, median], rel=1e-5
        )
        assert found.percentiles == pytest.approx(percentiles, rel=1e-5)


def test_an_empty_trace_has_no_numbers():
    text = "Latency: min = inf ms, max = inf ms, mean = nan ms, median = -nan ms, percentile(99%) = inf ms"
    log = parse_log(informative("Throughput: nan qps", text.replace("-nan", "nan")))
    assert log.summary.throughput_qps is None
    assert log.summary.latencies["Latency"].percentiles == {99.0: None}


def test_verbose_explanations_are_no_summary():
    text = (
        f"{STAMP} [V] Throughput: the observed throughput computed by dividing\n"
        f"{STAMP} [V] Latency: the summation of H2D Latency, GPU Compute Time, and D2H Latency.\n"
    )
    assert parse_log(text.encode()).summary is None


def test_percentile_in_single_precision():
    ordered = np.arange(1000.0)
    # (1 - 0.9f) * 1000 is 100.00002 in fp32 and 99.99999 in fp64: the tool computes in fp32.
    assert tool_percentile(ordered, 90) == 899
    assert tool_percentile(ordered, 100) == 999
    assert tool_percentile(ordered, 0) == 0
    assert tool_percentile(np.empty(0), 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_ordered_members(sample, first, second):
    ordered = np.sort(np.array(sample))
    low, high = sorted((first, second))
    assert tool_percentile(ordered, low) in ordered
    assert tool_percentile(ordered, low) <= tool_percentile(ordered, high)
    assert tool_percentile(ordered, 100) == ordered[-1]


def query(start: float, compute: float, h2d: float = 0.1, d2h: float = 0.05) -> dict[str, float]:
    ends = [start + h2d, start + h2d + compute, start + h2d + compute + d2h]
    return {
        "startEnqMs": start,
        "endEnqMs": start,
        "startH2dMs": start,
        "endH2dMs": ends[0],
        "startComputeMs": ends[0],
        "endComputeMs": ends[1],
        "startD2hMs": ends[1],
        "endD2hMs": ends[2],
        "h2dMs": h2d,
        "computeMs": compute,
        "d2hMs": d2h,
        "latencyMs": h2d + compute + d2h,
    }


def test_the_warm_up_is_dropped_by_when_computing_began():
    text = json.dumps([query(10, 1), query(199.95, 2), query(300, 3), query(250, 4)])
    times = parse_times(text, warmup_ms=200)
    assert times.compute_ms.tolist() == [2, 4, 3], "in the order of their starts"
    assert times.walltime_s == pytest.approx((303.15 - 199.95) / 1000)
    summary = summarise_times(times, (50,))
    assert summary.queries == 3
    assert summary.throughput_qps == pytest.approx(3 / times.walltime_s)
    assert summary.latencies["GPU Compute Time"].median_ms == 3


def test_nothing_after_the_warm_up_is_an_error():
    with pytest.raises(MeasurementError, match="none after the warm-up of 500 ms") as caught:
        parse_times(json.dumps([query(10, 1)]), warmup_ms=500)
    assert caught.value.code == "no_samples"


def profile_text(count: int, layers: list[tuple[str, str]]) -> str:
    """A profile as the tool writes it: totals over all inferences, averages and shares of them."""
    total = sum(float(time) for _, time in layers)
    rows = "".join(
        f', {{ "name" : "{name}", "timeMs" : {time}, "averageMs" : {float(time) / count:g}, '
        f'"medianMs" : {float(time) / count:g}, "percentage" : {100 * float(time) / total if total else 0:g} }}\n'
        for name, time in layers
    )
    return f'[\n  {{ "count" : {count} }}\n{rows}]\n'


NASTY = ['a "quoted" name', "back\\slash", '", "timeMs" : 1', "conv + {relu}", "", "ünïcode", "percentile(99%)"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
            st.just(0.0) | st.floats(1e-6, 1e5),
        ),
        max_size=8,
    )
)
def test_raw_names_survive(layers):
    profile = parse_profile(profile_text(7, [(name, f"{time:g}") for name, time in layers]))
    assert profile.count == 7
    assert [layer.name for layer in profile.layers] == [name for name, _ in layers]
    assert [layer.time_ms for layer in profile.layers] == pytest.approx([time for _, time in layers], rel=1e-5)


def test_a_profile_without_time_has_nan():
    text = '[\n  { "count" : 1 }\n' + "".join(
        f', {{ "name" : "{name}", "timeMs" : 0, "averageMs" : 0, "medianMs" : 0, "percentage" : {share} }}\n'
        for name, share in (("a", "-nan"), ("b", "nan"), ("c", "inf"))
    )
    profile = parse_profile(text + "]\n")
    assert [layer.percentage for layer in profile.layers] == [None, None, None]
    assert [layer.time_ms for layer in profile.layers] == [0, 0, 0]


def test_the_last_of_several_profiles_stands():
    text = profile_text(5, [("old", "1")]) + profile_text(9, [("new", "2")])
    profile = parse_profile(text)
    assert profile.count == 9
    assert [layer.name for layer in profile.layers] == ["new"]


def test_an_old_profile_without_medians():
    text = '[\n  { "count" : 3 }\n, { "name" : "a", "timeMs" : 6, "averageMs" : 2, "percentage" : 100 }\n]'
    layer = parse_profile(text).layers[0]
    assert (layer.average_ms, layer.median_ms) == (2, None)


def test_layer_names_only():
    layers = parse_layers(json.dumps({"Layers": ["a", "b"], "Bindings": ["x"]}))
    assert [layer.name for layer in layers] == ["a", "b"]
    assert realised_precision(layers) is None
    table = layers_table(None, layers)
    assert table["name"].to_pylist() == ["a", "b"]
    assert table["mean_ns"].null_count == 2
    assert layers_table(None, ()).schema == LAYERS


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("Row major linear FP16 format", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Channel major INT8 format where channel % 4 == 0", "int8"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("Row major linear BF16 format", "bf16"),
        ("FP8", "fp8"),
        ("Something new", None),
    ],
)
def test_dtypes_are_read_from_words(words, dtype):
    tensor = {"Name": "t", "Dimensions": [1], "Format/Datatype": words}
    text = json.dumps({"Layers": [{"Name": "l", "LayerType": "Shuffle", "Inputs": [tensor], "Outputs": [tensor]}]})
    assert parse_layers(text)[0].input_dtype == dtype


def test_realised_precision_weighs_by_time():
    layers = [
        Layer(name="a", layer_type="CaskConvolution", input_dtype="int8"),
        Layer(name="b", layer_type="CaskConvolution", input_dtype="int8"),
        Layer(name="c", layer_type="gemm", input_dtype="fp32", tactic="sm80_xmma_gemm_f32f32_tf32f32_f32"),
        Layer(name="d", layer_type="Reformat", input_dtype="fp32"),
    ]
    assert realised_precision(layers) == "int8+tf32"
    profile = parse_profile(profile_text(1, [("a", "1"), ("b", "1"), ("c", "9")]))
    assert realised_precision(layers, profile) == "tf32+int8"


FAILING = {
    "unknown_flag": "Unknown option: --fp16 ",
    "out_of_memory": "Error[1]: [resizableBuffer.h::f::90] Error Code 1: Cuda Runtime (out of memory)",
    "version_mismatch": "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
    "stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 240)",
    "wrong_device": "The engine plan file is generated on an incompatible device, expecting compute 8.9 got 9.0",
    "plugin_missing": "Plugin not found, are the plugin name, version, and namespace correct?",
    "unsupported_operator": "No importer registered for op: Frobnicate",
    "model_missing": "Model missing or format not recognized",
    "shape_outside_profile": 'Cannot find input tensor with name "x" in the network',
    "model_corrupt": "Parsing model failed",
    "engine_corrupt": "Engine deserialization failed",
    "driver_insufficient": "Cuda failure: CUDA driver version is insufficient for CUDA runtime version",
    "accuracy_failed": "Accuracy validation FAILED: one or more tensors exceeded the threshold.",
    "disk_full": "could not write the engine: No space left on device",
    "build_failed": "Could not find any implementation for node {ForeignNode[a...b]}.",
    "crashed": "Error occurred during inference",
}


@pytest.mark.parametrize(("code", "text"), FAILING.items())
def test_known_failures(code, text):
    error = explain_failure(split_lines(f"{STAMP} [E] {text}\n{STAMP} [E] Got something else"), 1, "case")
    assert error.code == code
    assert " ".join(text.split())[:60] in error.message
    assert error.remedy


def test_every_pattern_names_a_known_code():
    assert {known.code for known in FAILURES} <= set(FAILURE_CODES)
    assert set(FAILING) == {known.code for known in FAILURES}


def test_the_cause_comes_before_what_follows_from_it():
    lines = split_lines(
        f"{STAMP} [E] Error[10]: Could not find any implementation for node a.\n"
        f"{STAMP} [E] Error[2]: OutOfMemory (no further information)\n"
        f"{STAMP} [E] Engine set up failed\n"
    )
    error = explain_failure(lines, 1, "case")
    assert error.code == "out_of_memory"
    assert error.message.startswith("case: ")


@pytest.mark.parametrize(("returncode", "number"), [(-11, 11), (139, 11), (137, 9), (0, None), (1, None), (300, None)])
def test_signals(returncode, number):
    assert signal_number(returncode) == number


def test_a_killed_run_mentions_memory():
    error = explain_failure([], 137, "case")
    assert error.code == "killed"
    assert "SIGKILL" in error.message
    assert "memory" in error.message


def test_a_parse_failure_of_tensorrt_11_has_no_failed_banner():
    out = b"&&&& RUNNING TensorRT.trtexec [TensorRT v110000] [b1] # trtexec --fp16\n=== Model Options ===\n"
    log = parse_log(out, f"{STAMP} [E] Unknown option: --fp16 \n".encode())
    with pytest.raises(BackendError, match="--fp16") as caught:
        judge_run(log, 1, what="case")
    assert caught.value.code == "unknown_flag"


pieces = st.sampled_from(
    [
        b"&&&& RUNNING TensorRT.trtexec [TensorRT v8600] # ",
        b"[07/07/2026-02:10:45] [I] ",
        b"[07/07/2026-02:10:45] [E] [TRT] ",
        b"=== Inference Options ===",
        b"=== Profile (3 iterations ) ===\n",
        b"Layer Time (ms) Avg. Time (ms) Median Time (ms) Time %\n",
        b"Latency: min = ",
        b"Throughput: ",
        b"1e999 qps",
        b"percentile(9e9999%) = 1 ms",
        b"Duration: nans (+ infms warm up)",
        b"Total Scratch Memory: 99999999999999999999999999",
        b'{ "count" : 3 }',
        b'"name" : "',
        b'[{"startComputeMs": NaN}]',
        b"\n",
    ]
)
garbage = st.lists(pieces | st.binary(max_size=20), max_size=30).map(b"".join)


@given(garbage, garbage, st.integers(-64, 255))
def test_garbage_never_raises_anything_but_our_errors(stdout, stderr, returncode):
    log = parse_log(stdout, stderr)
    log.reasons()
    log.profile()
    log.notes()
    with contextlib.suppress(BackendError):
        judge_run(log, returncode, what="case")
    text = stdout.decode("utf-8", errors="replace")
    for parse in (parse_profile, parse_layers, lambda text: parse_times(text, warmup_ms=0)):
        with contextlib.suppress(MeasurementError):
            parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["Layers", "Name", "Inputs", "Outputs", "LayerType"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(content):
    text = json.dumps(content)
    for parse in (parse_layers, lambda text: parse_times(text, warmup_ms=0)):
        with contextlib.suppress(MeasurementError):
            parse(text)
