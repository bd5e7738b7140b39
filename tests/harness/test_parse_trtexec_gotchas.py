"""Every trap of trtexec's output that is known, by its number in the docs (docs/tensorrt.md, "Traps")."""

from __future__ import annotations

import json

import numpy as np
import pytest

from enginewatch_db.errors import BackendError, MeasurementError
from enginewatch_harness.backends.trtexec_command import measuring_flags, precision_flags
from enginewatch_harness.backends.trtexec_flags import Tool
from enginewatch_harness.backends.trtexec_options import TrtexecOptions
from enginewatch_harness.parse.trtexec_check import check_agreement
from enginewatch_harness.parse.trtexec_json import parse_profile, parse_times, summarise_times
from enginewatch_harness.parse.trtexec_lines import decode_version
from enginewatch_harness.parse.trtexec_log import judge_build, judge_run, parse_log
from enginewatch_harness.parse.trtexec_output import parse_output
from enginewatch_harness.parse.trtexec_reasons import contradictions
from enginewatch_harness.parse.trtexec_summary import mean_tolerance

T10, T11 = Tool(path="t", version="10.16.1"), Tool(path="t", version="11.0.0")

OPTIONS_10 = """\
=== Inference Options ===
Batch: Explicit
Input inference shape : x=1x3x8x8
Iterations: 20
Duration: 4s (+ 500ms warm up)
Sleep time: 0ms
Idle time: 0ms
Inference Streams: 1
ExposeDMA: Disabled
Data transfers: Disabled
Spin-wait: Enabled
Multithreading: Disabled
CUDA Graph: Enabled
Separate profiling: Disabled
"""
OPTIONS_11 = OPTIONS_10.replace("Separate profiling: Disabled\n", "").replace("Batch: Explicit\n", "")
SUMMARY = """\
=== Performance summary ===
Throughput: 15374.3 qps
Latency: min = 0.0410156 ms, max = 0.14917 ms, mean = 0.0441053 ms, median = 0.0440674 ms
GPU Compute Time: min = 0.04 ms, max = 0.14 ms, mean = 0.04 ms, median = 0.04 ms, percentile(90%) = 0.045 ms
Total Host Walltime: 3.00013 s
Total GPU Compute Time: 1.6586 s
"""
EXPECTED = {"cuda_graph": True, "spin_wait": True, "data_transfers": False, "streams": 1}


def log_of(text: str, *, version: str = "v101601", state: str = "PASSED", severity: str = "I", stderr: str = ""):
    banner = f"TensorRT.trtexec [TensorRT {version}] [b11] # trtexec --loadEngine=m.plan"
    lines = "".join(f"[07/07/2026-02:10:45] [{severity}] {line}\n" for line in text.splitlines())
    end = f"&&&& {state} {banner}\n" if state else ""
    return parse_log(f"&&&& RUNNING {banner}\n{lines}{end}".encode(), stderr.encode())


def test_1_versions_have_other_defaults_so_settings_are_stated_and_read_back():
    quiet, classic = TrtexecOptions().measuring(), TrtexecOptions(protocol="classic").measuring()
    assert measuring_flags(T10, **quiet) != measuring_flags(T11, **quiet)
    assert set(measuring_flags(T11, **classic)) == {"--noCudaGraph", "--noSpinWait", "--includeDataTransfers"}
    for version, text in (("v101601", OPTIONS_10), ("v110100", OPTIONS_11)):
        log = log_of(text + SUMMARY, version=version)
        assert log.effective_options() == EXPECTED
        assert contradictions(log.options, {**quiet, "streams": 1, "warmup_ms": 500.0}) == ()
        assert "cuda_graph: asked for off" in contradictions(log.options, classic)[0].detail
    untold = log_of(SUMMARY)
    assert untold.effective_options() == {}
    assert contradictions(untold.options, quiet) == (), "what is not told contradicts nothing"


def test_1_unusual_settings_are_part_of_identity_too():
    text = OPTIONS_10.replace("Idle time: 0ms", "Idle time: 5ms").replace("threading: Dis", "threading: En")
    assert log_of(text).effective_options() == EXPECTED | {"idle_ms": 5.0, "threads": True}


def test_1_a_graph_that_was_not_captured_was_not_launched():
    log = log_of(OPTIONS_10 + SUMMARY, stderr="[07/07/2026-02:10:45] [W] CUDA graph capture failed. The inference\n")
    assert log.effective_options()["cuda_graph"] is False
    assert [reason.code for reason in log.reasons()] == ["cuda_graph_failed"]


def test_2_tensorrt_11_has_no_precision_flags():
    assert precision_flags(T10, "fp16") == ("--fp16",)
    assert precision_flags(T11, "fp16") == ()
    log = log_of("", version="v110000", state="", stderr="[07/07/2026-02:10:45] [E] Unknown option: --fp16 \n")
    with pytest.raises(BackendError, match="--fp16") as caught:
        judge_run(log, 1, what="case")
    assert caught.value.code == "unknown_flag"


@pytest.mark.parametrize("returncode", [0, 1, -9, 137])
def test_3_neither_passed_nor_failed_is_a_failure(returncode):
    log = log_of(OPTIONS_11 + SUMMARY, version="v110100", state="")
    with pytest.raises(BackendError):
        judge_run(log, returncode, what="case")
    with pytest.raises(BackendError):
        judge_run(log_of(OPTIONS_11, version="v110100"), 0, what="case")  # passed, and no summary
    with pytest.raises(BackendError):
        judge_run(log_of(SUMMARY), 1, what="case")  # passed, and exit status 1
    assert judge_run(log_of(SUMMARY), 0, what="case") == ()


def test_3_words_of_tuning_are_banners_too():
    log = parse_log(b"&&&& TASK_BEGIN TensorRT.trtexec [TensorRT v110100] [b1] # trtexec\n")
    assert (log.banners[0].state, log.version, log.passed) == ("TASK_BEGIN", "11.1.0", False)


def test_4_a_profiler_in_the_measurement_leaves_no_summary():
    text = "The e2e network timing is not reported since it is inaccurate due to the extra synchronizations when"
    log = log_of(OPTIONS_10 + text + " the profiler is enabled.\n")
    assert [reason.code for reason in log.reasons()] == ["profiler_on"]
    with pytest.raises(BackendError) as caught:
        judge_run(log, 0, what="case")
    assert caught.value.code == "no_samples"
    assert "separateProfileRun" in (caught.value.remedy or "")


def test_5_warnings_may_stand_after_the_end():
    late = "[07/07/2026-02:10:45] [W] * GPU compute time is unstable, with coefficient of variance = 6.58751%.\n"
    apart = log_of(SUMMARY, stderr=late)
    raw = f"&&&& RUNNING T [TensorRT v8600] # t\n[07/07/2026-02:10:45] [I] {SUMMARY.splitlines()[1]}\n"
    merged = parse_log((raw + "&&&& PASSED T [TensorRT v8600] # t\n" + late).encode())
    assert [reason.code for reason in apart.reasons()] == [reason.code for reason in merged.reasons()]
    assert merged.passed


def query(start: float, compute: float, h2d: float = 0.125, d2h: float = 0.0625) -> dict[str, float]:
    return {
        "startEnqMs": start + 1,
        "endEnqMs": start + 1,
        "startH2dMs": start,
        "endH2dMs": start + h2d,
        "startComputeMs": start + h2d,
        "endComputeMs": start + h2d + compute,
        "startD2hMs": start + h2d + compute,
        "endD2hMs": start + h2d + compute + d2h,
        "h2dMs": h2d,
        "computeMs": compute,
        "d2hMs": d2h,
        "latencyMs": h2d + compute + d2h,
    }


def test_6_stamps_have_six_digits_and_the_enqueue_may_begin_after_the_kernels():
    record = query(1234.56, 0.001953)
    record |= {"startComputeMs": 1234.69, "endComputeMs": 1234.69, "startD2hMs": 1234.69, "endD2hMs": 1234.75}
    times = parse_times(json.dumps([record]), warmup_ms=0)
    assert times.compute_ms.tolist() == [0.001953], "the duration, not the difference of two stamps"
    assert "Enqueue Time" not in summarise_times(times, (50,)).latencies


def test_7_old_files_hold_the_warm_up():
    old = [query(10 + index, 9.0) for index in range(3)] + [query(200 + index, 0.5) for index in range(4)]
    times = parse_times(json.dumps(old), warmup_ms=200)
    assert times.compute_ms.tolist() == [0.5] * 4
    new = parse_times(json.dumps(old[3:]), warmup_ms=200)
    assert new.compute_ms.tolist() == times.compute_ms.tolist()


def test_7_files_of_tensorrt_7_swap_the_names_of_enqueue_and_transfer():
    record = {
        "startEnqMs": 500.0,
        "endEnqMs": 500.125,
        "startInMs": 400.0,
        "endInMs": 400.25,
        "startComputeMs": 500.125,
        "endComputeMs": 501.125,
        "startOutMs": 501.125,
        "endOutMs": 501.25,
        "inMs": 0.125,
        "computeMs": 1.0,
        "outMs": 0.125,
        "latencyMs": 1.25,
        "endToEndMs": 1.25,
    }
    times = parse_times(json.dumps([record]), warmup_ms=200)
    assert (times.start_h2d_ms[0], times.h2d_ms[0], times.end_d2h_ms[0]) == (500.0, 0.125, 501.25)


def test_8_the_tools_mean_is_of_single_precision():
    values = np.full(200_000, 0.1, np.float32)
    tools = float(np.cumsum(values, dtype=np.float32)[-1] / np.float32(len(values)))
    assert abs(tools - 0.1) / 0.1 > 1e-4, "so an exact comparison would refuse good runs"
    assert abs(tools - 0.1) / 0.1 < mean_tolerance(len(values))
    assert mean_tolerance(100) < 3e-5


def test_9_names_are_raw_and_shares_may_be_no_numbers():
    name = 'conv "a\\b" + {"name" : "x", "timeMs" : 3'
    text = f'[\n  {{ "count" : 2 }}\n, {{ "name" : "{name}", "timeMs" : 0, "averageMs" : 0, "percentage" : -nan }}\n]\n'
    layer = parse_profile("[\n]\n" + text).layers[0]
    assert (layer.name, layer.percentage, layer.median_ms) == (name, None, None)
    with pytest.raises(MeasurementError):
        parse_profile(text + text[:-3])  # the file of the last run is cut off: the one before must not stand for it


def test_10_throughput_counts_images_for_an_implicit_batch():
    records = [query(500 + index * 2, 1.0) for index in range(1000)]
    times = parse_times(json.dumps(records), warmup_ms=500)
    own = summarise_times(times, (90,))
    text = (
        f"Timing trace has {32 * 1000} queries over {own.walltime_s:g} s\nThroughput: {32 * own.throughput_qps:g} qps\n"
    )
    log = log_of(text)
    assert log.summary.throughput_qps == pytest.approx(32 * own.throughput_qps, rel=1e-5)
    with pytest.raises(MeasurementError, match="number of queries") as caught:
        check_agreement(times, log.summary, streams=1)  # never 32 times what was measured
    assert caught.value.code == "results_damaged"


def test_versions_in_the_banner_and_in_the_log():
    assert [decode_version(digits) for digits in ("8502", "8600", "101601", "110100")] == [
        "8.5.2",
        "8.6.0",
        "10.16.1",
        "11.1.0",
    ]
    assert parse_log(b"&&&& RUNNING who knows [TensorRT v110100] [b7] # x\n").version == "11.1.0"
    assert parse_log(b"[07/07/2026-02:10:45] [I] TensorRT version: 10.16.1\n").version == "10.16.1"
    assert parse_log(b"&&&& RUNNING TensorRT.trtexec # ./trtexec\n").version is None, "TensorRT 7 does not say"
    plan = parse_log(b"[07/07/2026-02:10:45] [I] Plan was created with TensorRT version 10.8.0\n")
    assert plan.plan_version() == "10.8.0"


def test_a_build_of_tensorrt_11():
    text = """\
=== Build Options ===
Memory Pools: workspace: default, dlaSRAM: default, dlaLocalDRAM: default, dlaGlobalDRAM: default
Precision: Strongly Typed
BuilderOptimizationLevel: 4
MaxTactics: -1
timingCacheMode: global
=== Device Information ===
Selected Device: NVIDIA H200
Selected Device UUID: GPU-0001
Compute Capability: 9.0
SMs: 132
TensorRT version: 11.1.0
[TRT] [MemUsageChange] Init builder kernel library: CPU +2955, GPU +750, now: CPU 3056, GPU 1276 (MiB)
Finished parsing network model. Parse time: 0.0170852
[TRT] [MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 2 MiB, GPU 13 MiB
Engine built in 8.09138 sec.
Created engine with size: 12.5744 MiB
Skipped inference phase since --skipInference is added.
"""
    log = log_of(text, version="v110100")
    assert judge_build(log, 0, engine_saved=True, what="b") == ()
    build = log.build
    assert (build.precision, build.optimization_level, build.timing_cache) == ("Strongly Typed", 4, "global")
    assert (build.build_time_s, build.engine_size_mib, build.peak_gpu_mib, build.process_mib) == (
        8.09138,
        12.5744,
        13,
        3056,
    )
    assert log.device.compute_capability == "9.0"


def test_bindings_of_tensorrt_8_and_11():
    old = log_of(
        "Created input binding for x with dimensions 8x3x4x4\nCreated output binding for y:0 with dimensions 8"
    )
    new = log_of(
        "Input binding for x with dimensions 8x3x4x4 and type fp16 is created.\n"
        "Output binding for y:0 with dimensions 8 and type int64 is created."
    )
    assert [(item.name, item.is_input, item.dims, item.dtype) for item in old.bindings()] == [
        ("x", True, (8, 3, 4, 4), None),
        ("y:0", False, (8,), None),
    ]
    assert [item.dtype for item in new.bindings()] == ["fp16", "int64"]
    between = log_of("Input binding for x with dimensions (8, 3) is created.", version="v100001")
    assert [(item.dims, item.dtype) for item in between.bindings()] == [((8, 3), None)]


def test_outputs_of_every_kind():
    text = """[
  { "name" : "scores \\ raw"
  , "dimensions" : "1x2"
  , "values" : [ Final shape is 2x2 reported by the output allocator.
1, -2.5e-07, -nan, inf ]
  }
, { "name" : "ids"
  , "dimensions" : "2"
  , "values" : [ 9007199254740993, -1 ]
  }
, { "name" : "none"
  , "dimensions" : "0x4"
  , "values" : [  ]
  }
, { "name" : "scalar"
  , "dimensions" : ""
  , "values" : [ 7 ]
  }
]
"""
    found = parse_output(text, {"ids": "int64"})
    assert {name: array.shape for name, array in found.items()} == {
        "scores \\ raw": (2, 2),
        "ids": (2,),
        "none": (0, 4),
        "scalar": (),
    }
    assert found["ids"].tolist() == [9007199254740993, -1], "no float between"
    np.testing.assert_array_equal(found["scores \\ raw"].ravel(), np.float32([1, -2.5e-07, np.nan, np.inf]))
    for broken in (text.replace('"2"', '"3"'), text.replace("[ 7 ]", "[ 7, 8 ]"), text.replace('"ids"', '"none"')):
        with pytest.raises(MeasurementError) as caught:
            parse_output(broken, {"ids": "int64"})
        assert caught.value.code == "results_damaged"


def test_the_summary_of_tensorrt_8_2():
    text = """\
Timing trace has 1500 queries over 3.00424 s
=== Performance summary ===
Throughput: 499.294 qps
Latency: min = 2 ms, max = 3 ms, mean = 2.5 ms, median = 2.25 ms, percentile(99%) = 2.75 ms
End-to-End Host Latency: min = 4 ms, max = 6 ms, mean = 5 ms, median = 5 ms, percentile(99%) = 5.5 ms
"""
    summary = log_of(text, version="v8201").summary
    assert (summary.throughput_qps, summary.queries) == (499.294, 1500)
    assert summary.latencies["Latency"].percentiles == {99.0: 2.75}
    assert summary.latencies["End-to-End Host Latency"].median_ms == 5


def test_the_summary_of_tensorrt_7():
    text = """\
Host Latency
min: 3.05505 ms (end to end 3.06653 ms)
max: 3.5 ms (end to end 3.6 ms)
mean: 3.1 ms (end to end 3.2 ms)
median: 3.09 ms (end to end 3.19 ms)
percentile: 3.4563 ms at 99% (end to end 3.47168 ms at 99%)
throughput: 318.785 qps
walltime: 3.00516 s
Enqueue Time
min: 0.4 ms
max: 0.6 ms
median: 0.5 ms
GPU Compute
min: 3.0 ms
max: 3.4 ms
mean: 3.05 ms
median: 3.04 ms
percentile: 3.3 ms at 99%
total compute time: 2.92575 s
"""
    summary = log_of(text, version="v7201").summary
    assert (summary.throughput_qps, summary.walltime_s, summary.gpu_time_s) == (318.785, 3.00516, 2.92575)
    assert summary.latencies["Latency"].percentiles == {99.0: 3.4563}
    assert summary.latencies["GPU Compute Time"].median_ms == 3.04
    assert summary.latencies["Enqueue Time"].mean_ms is None
