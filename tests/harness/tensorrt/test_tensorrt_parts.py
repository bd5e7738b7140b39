from __future__ import annotations

from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import BackendError, NotAvailableError, PlanError
from enginewatch_harness.backends import tensorrt_marks
from enginewatch_harness.backends.tensorrt_layers import LayerTimes, layers_from_log
from enginewatch_harness.backends.tensorrt_log import LogKeeper, explain, logger
from enginewatch_harness.backends.tensorrt_loop import burst_size, run_bursts, run_timed
from enginewatch_harness.backends.tensorrt_module import load_module, member, require
from enginewatch_harness.backends.tensorrt_options import parse_options
from enginewatch_harness.backends.tensorrt_progress import BuildProgress
from enginewatch_harness.backends.tensorrt_tensors import TensorSpec, decode, encode, numpy_dtype
from enginewatch_harness.parse.trtexec_layers import realised_precision
from enginewatch_harness.parse.trtexec_lines import LogLine

LISTED = (Path(__file__).parents[2] / "data/harness/tensorrt_rtx_layers.txt").read_text()


def line(text, severity="E"):
    return LogLine(text=text, severity=severity, library=True)


# --- layers


def test_layers_are_read_from_what_tensorrt_rtx_lists_in_a_build():
    layers = layers_from_log([line("Building", "V"), line(LISTED, "V")])
    assert [layer.layer_type for layer in layers] == ["kgen", "gemm", "gemm", "runtime_fusion"]
    gemm = layers[1]
    assert gemm.name == "layer0_value+layer0_key+layer0_query_myl0_1"
    assert (gemm.input_dtype, gemm.output_dtype) == ("fp32", "fp32")
    assert gemm.inputs[0].shape == (512, 256)
    assert set(gemm.origin) == {"layer0_query", "layer0_key", "layer0_value"}
    assert realised_precision(layers) == "fp32"


def test_layers_of_tensorrts_older_words_are_read_too():
    text = (
        "Engine Layer Information:\nName: conv1 + relu, LayerType: CaskConvolution, Inputs: [ { Name: x, Location: "
        "Device, Dimensions: [8,3,32,32], Format/Datatype: Row major linear FP16 format }], Outputs: [ { Name: y, "
        "Dimensions: [8,8,16,16], Format/Datatype: Channel major FP16 format }], ParameterType: Convolution, "
        "TacticName: sm80_xmma_fprop, TacticValue: 0x1"
    )
    (layer,) = layers_from_log([line(text, "V")])
    assert (layer.name, layer.tactic, layer.input_dtype) == ("conv1 + relu", "sm80_xmma_fprop", "fp16")


@given(st.text())
@settings(max_examples=50)
def test_any_list_of_layers_is_read_or_left(text):
    layers_from_log([line(f"Layers:\n{text}", "V")])


@given(st.integers(0, len(LISTED)))
@settings(max_examples=30)
def test_a_list_that_was_cut_off_tells_no_layer_that_is_not_in_the_whole(end):
    whole = [layer.name for layer in layers_from_log([line(LISTED, "V")])]
    cut = [layer.name for layer in layers_from_log([line(LISTED[:end], "V")])]
    assert cut == whole[: len(cut)]


def test_times_of_layers_are_summed_by_name_and_averaged_over_inferences():
    times = LayerTimes()
    for _ in range(4):
        for name, ms in (("a", 1.0), ("part", 0.5), ("part", 0.25), ("zero", 0.0)):
            times.report(name, ms)
    profile = times.profile(4)
    found = {layer.name: (layer.average_ms, layer.median_ms) for layer in profile.layers}
    assert found == {"a": (1.0, 1.0), "part": (0.75, 0.75), "zero": (0.0, 0.0)}
    assert sum(layer.percentage or 0 for layer in profile.layers) == pytest.approx(100)


# --- what it says


@pytest.mark.parametrize(
    ("said", "code"),
    [
        # as TensorRT-RTX 1.7.1 said them on a machine without a GPU
        ("IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (Build canceled by user In next)", "timeout"),
        ("Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been "
         "defined. In validate)", "shape_outside_profile"),
        ("In node -1 with name:  and operator:  (parseFromFile): INVALID_VALUE: Assertion failed: Input file cannot be "
         "found, or is not a regular file: none.onnx", "model_missing"),
        ("(deserializeOnnxModel): MODEL_DESERIALIZE_FAILED: Assertion failed: Failed to parse the ONNX model.",
         "model_corrupt"),
        ('[6] creator && "Plugin not found, are the plugin name, version, and namespace correct?"', "plugin_missing"),
        ("Error Code 6: API Usage Error (Unable to load library: libnvinfer_lean.so.1: cannot open)", "build_failed"),
        ("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion plan.header.size == "
         "blobSize failed.)", "engine_corrupt"),
    ],
)  # fmt: skip
def test_what_the_library_really_says_has_a_code_though_there_is_no_driver(said, code):
    driver = "Error Code 1: Cuda Runtime (In ScopedCudaStream (cudaError 35: CUDA driver version is insufficient for"
    error = explain([line(driver), line(said), line(driver)], "build of x", code="crashed", remedy="")
    assert error.code == code
    assert said.split()[-1] in error.message


def test_without_any_other_error_the_missing_driver_is_it():
    error = explain([line("CUDA driver version is insufficient")], "build of x", code="crashed", remedy="")
    assert error.code == "driver_insufficient"


def test_no_known_words_keep_the_first_and_the_last_error():
    lines = [line("odd", "I"), line("first"), line("middle"), line("last")]
    error = explain(lines, "x", code="build_failed", remedy="read")
    assert (error.message, error.code, error.remedy) == ("x: first (then: last)", "build_failed", "read")
    assert "gave no reason" in explain([], "x", code="build_failed", remedy="").message


def test_the_log_keeps_errors_and_layers_of_a_verbose_build_only():
    keeper = LogKeeper()
    keeper.keep("VERBOSE", "Parsing node: conv")
    keeper.keep("VERBOSE", "Layers:\nName: a")
    keeper.keep("ERROR", "bad")
    keeper.keep("INTERNAL_ERROR", "worse")
    assert [item.severity for item in keeper.lines] == ["V", "E", "F"]
    assert keeper.text(1) == "[E] bad\n[F] worse\n"


def test_a_process_has_one_logger_for_a_library(fake_tensorrt):
    module = fake_tensorrt("11.0.0.114")
    assert logger(module) is logger(module)


# --- progress


def test_phases_are_timed_by_the_clock_and_nest():
    ticks = count(0, 10_000_000)
    progress = BuildProgress(1.0, lambda steps: None, now_ns=lambda: next(ticks))
    progress.start("Building engine", None, 2)
    progress.start("Timing", "Building engine", 1)
    assert progress.step()
    progress.finish("Timing")
    progress.finish("Building engine")
    progress.finish("Building engine")  # a cancelled build says it twice
    assert [(phase.name, phase.parent, phase.duration_ns) for phase in progress.phases()] == [
        ("Building engine", None, 40_000_000),
        ("Timing", "Building engine", 20_000_000),
    ]


def test_steps_are_reported_four_times_a_second_and_end_with_the_time():
    heard = []
    ticks = count(0, 100_000_000)
    progress = BuildProgress(1.0, heard.append, now_ns=lambda: next(ticks))
    assert [progress.step() for _ in range(12)] == [True] * 9 + [False] * 3
    assert heard == [3, 6, 9, 12]
    assert progress.cancelled


# --- tensors


def spec(dtype):
    return TensorSpec(name="x", dtype=dtype, shape=(-1,), is_input=True)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_bfloat16_is_within_half_a_unit_in_the_last_place_and_stable(values):
    given_values = np.array(values, np.float32)
    bits = encode(given_values, spec("BF16"))
    back = decode(bits.view(np.uint8), spec("BF16"), given_values.shape)
    finite = np.abs(given_values) < 3e38  # above, rounding may reach infinity, as it must
    exact = given_values[finite].astype(np.float64)
    assert np.all(np.abs(back[finite] - exact) <= np.maximum(np.abs(exact) * 2.0**-8, 2.0**-133))
    np.testing.assert_array_equal(encode(back, spec("BF16")), bits)


def test_bfloat16_keeps_nan_and_infinity():
    values = np.array([np.nan, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(decode(encode(values, spec("BF16")).view(np.uint8), spec("BF16"), (3,)), values)


def test_types_that_cannot_cross_the_edge_of_an_engine_are_refused():
    with pytest.raises(BackendError, match="'x' has type FP8"):
        numpy_dtype("FP8", "x")


# --- loop


def test_a_window_runs_at_least_once_and_delays_are_in_the_latency():
    timed = run_timed(lambda: None, lambda: (5, 1, 2), duration_s=0.0, delay_ns=200_000, report=lambda n, ms: None)
    assert len(timed.starts) == 1
    assert timed.latencies[0] >= 200_000
    assert (list(timed.gpu), list(timed.h2d or ()), list(timed.d2h or ())) == ([5], [1], [2])


def test_bursts_are_long_enough_for_events():
    assert burst_size(20_000) == 1
    assert burst_size(19_000) * 19_000 >= 200_000
    assert burst_size(0) == 400
    assert run_bursts(lambda size: size * 7, size=4, bursts=3) == [7.0] * 3


# --- module and options


def test_names_are_looked_up_and_never_assumed():
    module = ModuleType("tensorrt")
    module.__version__ = "12.0"
    module.Flag = SimpleNamespace(__members__={"A": 1}, A=1)
    assert (member(module, "Flag", "A"), member(module, "Flag", "B"), member(module, "None", "A")) == (1, None, None)
    with pytest.raises(BackendError, match=r"tensorrt 12\.0 has no Flag\.B, which sparsity needs; it has A"):
        require(module, "Flag", "B", "sparsity")


def test_what_is_left_of_a_broken_package_is_not_taken_for_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(NotAvailableError, match="no Builder"):
        load_module("tensorrt")


def test_options_are_checked():
    assert parse_options({}, "tensorrt").measuring() == (True, True, False)
    assert parse_options({"protocol": "classic", "spin_wait": True}, "tensorrt").measuring() == (False, True, True)
    options = parse_options({"quantize_ops": ["Conv"], "calibration_samples": 2}, "tensorrt_rtx")
    assert (options.calibration().operators, options.calibration().samples) == (("Conv",), 2)
    for bad in (
        {"optimization_level": 9},
        {"min_shapes": {"x": [0]}},
        {"min_shapes": {"x": [True]}},
        {"max_shapes": 3},
        {"precision_by": "best"},
        {"opt_batch": 9, "max_batch": 8},
        {"strict_timing_cache": True},
        {"inject_delay_ms": 1e300},
        {"inject_delay_pct": 1e300},
    ):
        with pytest.raises(PlanError):
            parse_options(bad, "tensorrt")


def test_marks_do_nothing_without_nvtx(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nvtx", None)
    with tensorrt_marks.marked("measure"):
        pass
