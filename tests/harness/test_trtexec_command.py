"""Command lines of trtexec for TensorRT 8, 10 and 11."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_harness.backends.trtexec_command import (
    Tool,
    build_command,
    in_graph,
    infer_command,
    measuring_flags,
    precision_flags,
    precisions,
    profile_command,
    run_command,
)
from enginewatch_harness.backends.trtexec_find import listed_flags
from enginewatch_harness.backends.trtexec_flags import FLAGS
from enginewatch_harness.backends.trtexec_options import TrtexecOptions, parse_options
from enginewatch_harness.backends.trtexec_shapes import profile_range, shapes_spec, tuned_for

T8, T10, T11 = (Tool(path="/opt/trtexec", version=version) for version in ("8.6.0", "10.16.1", "11.1.0"))
SHAPES = {"input": (8, 3, 224, 224)}
PRECISION_FLAGS = {"--fp16", "--bf16", "--int8", "--fp8", "--int4", "--best"}


def built(tool: Tool, precision: str = "fp16", shapes=SHAPES, **options) -> list[str]:
    return build_command(
        tool,
        TrtexecOptions(**options),
        model=Path("/m.onnx"),
        engine=Path("/m.engine"),
        precision=precision,
        shapes=shapes,
        layers=Path("/l.json"),
    )


def run(tool: Tool, shapes=SHAPES, **options) -> list[str]:
    return run_command(
        tool,
        TrtexecOptions(**options),
        engine=Path("/m.engine"),
        shapes=shapes,
        warmup_s=0.5,
        duration_s=4.0,
        times=Path("/t.json"),
        layers=Path("/l.json"),
    )


def test_the_whole_build_command():
    assert built(T8, optimization_level=2, workspace_mib=1024, timing_cache="/tc", device=1) == [
        "/opt/trtexec",
        "--onnx=/m.onnx",
        "--saveEngine=/m.engine",
        "--skipInference",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=/l.json",
        "--fp16",
        "--minShapes=input:8x3x224x224",
        "--optShapes=input:8x3x224x224",
        "--maxShapes=input:8x3x224x224",
        "--builderOptimizationLevel=2",
        "--timingCacheFile=/tc",
        "--memPoolSize=workspace:1024",
        "--device=1",
    ]


def test_the_whole_run_command():
    assert run(T10) == [
        "/opt/trtexec",
        "--loadEngine=/m.engine",
        "--shapes=input:8x3x224x224",
        "--warmUp=500",
        "--duration=4",
        "--iterations=20",
        "--avgRuns=100",
        "--percentile=50,90,95,99",
        "--infStreams=1",
        "--useCudaGraph",
        "--useSpinWait",
        "--noDataTransfers",
        "--profilingVerbosity=detailed",
        "--exportTimes=/t.json",
        "--exportLayerInfo=/l.json",
        "--device=0",
    ]


@pytest.mark.parametrize("tool", [T8, T10, T11])
def test_every_precision_of_a_version_has_a_command(tool):
    for precision in precisions(tool):
        flags = PRECISION_FLAGS & set(built(tool, precision))
        if tool.major >= 11:
            assert not flags, "TensorRT 11 ends with 'Unknown option'"
        elif precision in ("fp32", "tf32"):
            assert not flags
        elif precision in ("int8", "fp8", "int4"):
            assert flags == {f"--{precision}", "--fp16"}, "the graph is quantised, the rest may be fp16"
        else:
            assert flags == {f"--{precision}"}
    assert ("--noTF32" in built(tool, "fp32")) is True
    assert ("--noTF32" in built(tool, "tf32")) is False


def test_precisions_that_a_version_lacks_are_refused():
    assert "bf16" not in precisions(T8)
    assert "bf16" in precisions(T10)
    for tool, precision in ((T8, "bf16"), (T10, "q8_0"), (T11, "best")):
        with pytest.raises(BackendError, match=precision) as caught:
            precision_flags(tool, precision)
        assert caught.value.code == "unsupported_precision"


def test_tensorrt_11_wants_the_precision_in_the_graph():
    graphs = {"fp16", "bf16", "int8", "fp8", "int4", "fp4"}
    assert {precision for precision in precisions(T11) if in_graph(T11, precision)} == graphs
    assert not any(in_graph(tool, "fp16") for tool in (T8, T10))
    assert {precision for precision in precisions(T10, "graph") if in_graph(T10, precision, "graph")} == graphs


def test_tensorrt_10_builds_graphs_by_choice():
    command = built(T10, "fp16", precision_by="graph")
    assert "--stronglyTyped" in command
    assert "--fp16" not in command
    assert {"--stronglyTyped", "--noTF32"} <= set(built(T10, "fp32", precision_by="graph"))
    with pytest.raises(BackendError, match=r"precision_by needs --stronglyTyped, which TensorRT 8\.6\.0") as caught:
        built(T8, "fp16", precision_by="graph")
    assert caught.value.code == "unknown_flag"
    with pytest.raises(BackendError, match=r"TensorRT 11\.1\.0 has no precision flags"):
        built(T11, "fp16", precision_by="flags")
    assert "--stronglyTyped" not in built(T11, "fp16", precision_by="graph"), "the only mode there is"


def test_protocols_are_brought_about_in_each_version():
    quiet, classic = TrtexecOptions().measuring(), TrtexecOptions(protocol="classic").measuring()
    for tool in (T8, T10):
        assert measuring_flags(tool, **quiet) == ("--useCudaGraph", "--useSpinWait", "--noDataTransfers")
        assert measuring_flags(tool, **classic) == ()
    assert measuring_flags(T11, **quiet) == (), "the defaults; their flags only warn"
    assert measuring_flags(T11, **classic) == ("--noCudaGraph", "--noSpinWait", "--includeDataTransfers")
    mixed = TrtexecOptions(cuda_graph=False, data_transfers=True).measuring()
    assert measuring_flags(T10, **mixed) == ("--useSpinWait",)
    assert measuring_flags(T11, **mixed) == ("--noCudaGraph", "--includeDataTransfers")


def test_no_profiler_is_ever_in_a_timed_run():
    for tool in (T8, T10, T11):
        assert not [flag for flag in run(tool) if "rofile" in flag and "profilingVerbosity" not in flag]
        command = profile_command(
            tool, TrtexecOptions(), engine=Path("/e"), shapes={}, profile=Path("/p"), layers=Path("/l")
        )
        assert {"--dumpProfile", "--exportProfile=/p"} <= set(command)
        assert ("--separateProfileRun" in command) == (tool is not T11)
        assert ("--noCudaGraph" in command) == (tool is T11)
        assert "--useCudaGraph" not in command


def test_one_inference_copies_its_data_in_every_version():
    commands = {
        tool.version: infer_command(
            tool,
            TrtexecOptions(),
            engine=Path("/e"),
            shapes=SHAPES,
            inputs={"b": "1.bin", "a:0": "0.bin"},
            output=Path("/o"),
        )
        for tool in (T8, T10, T11)
    }
    for command in commands.values():
        assert "--loadInputs='a:0':0.bin,b:1.bin" in command
        assert {"--iterations=1", "--duration=0", "--warmUp=0", "--exportOutput=/o"} <= set(command)
        assert "--noDataTransfers" not in command
    assert "--includeDataTransfers" in commands["11.1.0"]
    assert "--includeDataTransfers" not in commands["10.16.1"]


def test_names_that_trtexec_cannot_spell_are_refused():
    with pytest.raises(BackendError, match="'a,b'"):
        shapes_spec({"a,b": (1,)})


def test_other_measuring_options_are_stated():
    command = run(T10, multithreading=True, idle_ms=2.5, managed_memory=True, streams=4)
    assert {"--threads", "--idleTime=2.5", "--useManagedMemory", "--infStreams=4"} <= set(command)
    assert not {"--threads", "--useManagedMemory"} & set(run(T10))


BUILDER = {
    "optimization_level": (5, "--builderOptimizationLevel=5"),
    "max_tactics": (64, "--maxTactics=64"),
    "tiling_level": (2, "--tilingOptimizationLevel=2"),
    "aux_streams": (0, "--maxAuxStreams=0"),
    "sparsity": ("enable", "--sparsity=enable"),
    "hardware_compatibility": ("ampere+", "--hardwareCompatibilityLevel=ampere+"),
    "version_compatible": (True, "--versionCompatible"),
    "tactic_sources": (("-CUDNN", "+CUBLAS"), "--tacticSources=-CUDNN,+CUBLAS"),
    "plugins": (("/p.so",), "--staticPlugins=/p.so"),
    "workspace_mib": (512, "--memPoolSize=workspace:512"),
    "dla_sram_mib": (1, "--memPoolSize=dlaSRAM:1"),
    "tactic_shared_mem_kib": (48, "--memPoolSize=tacticSharedMem:48K"),
}


@pytest.mark.parametrize("option", BUILDER)
def test_builder_options_become_flags(option):
    value, flag = BUILDER[option]
    assert flag in built(T11, **{option: value})
    name = flag.partition("=")[0]
    assert not [item for item in built(T11) if item.startswith(name)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tactics": 4}, "option max_tactics needs --maxTactics, which TensorRT 8.6.0 does not know: .*since 10.4"),
        ({"tiling_level": 1}, "tiling_level needs --tilingOptimizationLevel.*since 10.8"),
        ({"hardware_compatibility": "sameComputeCapability"}, "=sameComputeCapability, which .*since 10.9"),
        ({"tactic_shared_mem_kib": 48}, "tactic_shared_mem_kib needs --memPoolSize=tacticSharedMem.*since 10.0"),
        ({"timing_cache": "/c", "strict_timing_cache": True}, "--errorOnTimingCacheMiss.*since 9.1"),
    ],
)
def test_an_option_that_the_version_lacks_is_named_with_version_and_remedy(options, words):
    with pytest.raises(BackendError, match=words) as caught:
        built(T8, **options)
    assert caught.value.code == "unknown_flag"
    assert "out of the plan for this version" in (caught.value.remedy or "")
    built(T11, **options)


def test_a_profile_from_the_plan():
    command = built(T10, min_shapes={"input": (2, 3, 64, 64)}, max_shapes={"input": (16, 3, 512, 512)})
    assert "--minShapes=input:2x3x64x64" in command
    assert "--maxShapes=input:16x3x512x512" in command
    command = built(T10, max_batch=32, max_shapes={"input": (64, 3, 224, 224)})
    assert "--minShapes=input:1x3x224x224" in command
    assert "--maxShapes=input:64x3x224x224" in command


def test_a_profile_that_does_not_fit_is_refused():
    for options, words in (
        ({"min_shapes": {"input": (9, 3, 224, 224)}}, r"is not from \(9, 3, 224, 224\)"),
        ({"max_shapes": {"input": (8, 3)}}, "is not from"),
        ({"max_shapes": {"image": (8, 3, 224, 224)}}, "'image', which is no dynamic input"),
    ):
        with pytest.raises(BackendError, match=words) as caught:
            built(T10, **options)
        assert caught.value.code == "shape_outside_profile"


def test_a_fixed_first_dimension_is_no_batch():
    shapes, options = {"mask": (4, 7)}, TrtexecOptions(max_batch=32)
    assert profile_range(shapes, options, {"mask": (4, "n")}) == ({"mask": (4, 7)}, {"mask": (4, 7)})
    assert profile_range(shapes, options, {"mask": ("n", 7)}) == ({"mask": (1, 7)}, {"mask": (32, 7)})


RTX = Tool(path="/opt/tensorrt_rtx", version="1.5.0", rtx=True, listed=frozenset({"--noCudaGraph", "--skipInference"}))


def test_tensorrt_rtx_is_strongly_typed_and_asked_for_its_flags():
    assert in_graph(RTX, "fp16")
    assert precision_flags(RTX, "fp16") == precision_flags(RTX, "fp32") == ()
    assert measuring_flags(RTX, **TrtexecOptions().measuring()) == ()
    old = Tool(path="/opt/tensorrt_rtx", version="1.0.0", rtx=True, listed=frozenset({"--useCudaGraph"}))
    assert measuring_flags(old, **TrtexecOptions().measuring())[0] == "--useCudaGraph"
    caching = Tool(path="/opt/tensorrt_rtx", version="1.5.0", rtx=True, listed=frozenset({"--runtimeCacheFile"}))
    assert "--runtimeCacheFile=/c" in run(caching, runtime_cache="/c")
    with pytest.raises(BackendError, match="only tensorrt_rtx has it"):
        run(T11, runtime_cache="/c")
    with pytest.raises(BackendError, match=r"which TensorRT-RTX 1\.5\.0 does not know: its --help does not list it"):
        built(RTX, sparsity="enable")


def test_a_static_model_gets_no_shapes():
    assert not [flag for flag in built(T10, shapes={}) + run(T10, shapes={}) if "hapes" in flag]


def test_shapes_are_spelled_for_trtexec():
    assert shapes_spec({"b": (1, 2), "a:0": (3,)}) == "'a:0':3,b:1x2"


def test_a_profile_for_smaller_batches():
    command = built(T10, max_batch=32)
    assert "--minShapes=input:1x3x224x224" in command
    assert "--optShapes=input:8x3x224x224" in command
    assert "--maxShapes=input:32x3x224x224" in command


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protcol": "quiet"}, "unknown trtexec option 'protcol' → did you mean 'protocol'"),
        ({"protocol": "loud"}, "one of quiet, classic"),
        ({"optimization_level": 6}, "an integer from 0 to 5"),
        ({"streams": 0}, "streams = 0"),
        ({"idle_ms": 1e300}, "idle_ms = 1e+300 must be a number from 0 to 1000000"),
        ({"build_timeout_s": 1e7}, "from 0 to 1000000"),
        ({"idle_ms": float("nan")}, "from 0 to 1000000"),
        ({"trtexec": ""}, "trtexec"),
        ({"cuda_graph": 1}, "true or false"),
        ({"min_shapes": [1]}, "a table"),
        ({"min_shapes": {"x": [0]}}, "integers above 0"),
        ({"tactic_sources": ["CUDNN"]}, "each is + or -"),
        ({"exclude_lean_runtime": True}, "version_compatible"),
        ({"strict_timing_cache": True}, "timing_cache"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(PlanError) as caught:
        parse_options(options)
    assert words in str(caught.value)


def test_good_options_are_read():
    parsed = parse_options({"protocol": "classic", "max_batch": 16, "threads": 1, "build_timeout_s": 60})
    assert parsed == TrtexecOptions(protocol="classic", max_batch=16, build_timeout_s=60.0)


def test_the_table_of_flags_agrees_with_a_real_help_text():
    data = Path(__file__).parent.parent / "data" / "harness" / "trtexec" / "help.stdout.log.gz"
    listed = listed_flags(gzip.decompress(data.read_bytes()).decode())
    assert len(listed) > 90
    unlisted = {"--separateProfileRun", "--buildOnly"} - listed  # accepted, and told by no help text of 8.6
    for flag, span in FLAGS.items():
        if flag not in unlisted:
            assert span.knows((8, 6)) == (flag in listed), flag


def test_every_version_of_a_flag_is_between_the_first_and_the_last():
    for flag, span in FLAGS.items():
        if span.since and span.until:
            assert span.since < span.until, flag
        if span.idle_since:
            assert span.knows(span.idle_since), flag


def test_quantised_precisions_are_calibrated_unless_flags_alone_are_wanted():
    assert in_graph(T8, "int8")
    assert in_graph(T10, "fp8")
    assert not in_graph(T8, "int8", "flags")
    assert not in_graph(T8, "fp16")
    assert precision_flags(T8, "int8", "flags") == ("--int8",)
    assert precision_flags(T8, "int8", rest="fp32") == ("--int8",)
    assert precision_flags(T10, "int8", "graph") == ("--stronglyTyped",)


def test_one_engine_for_every_batch():
    shapes = {"input": (8, 3, 224, 224)}
    options = TrtexecOptions(max_batch=32, opt_batch=16)
    assert tuned_for(shapes, options) == {"input": (16, 3, 224, 224)}
    assert profile_range(shapes, options) == ({"input": (1, 3, 224, 224)}, {"input": (32, 3, 224, 224)})
    assert "--optShapes=input:16x3x224x224" in built(T8, max_batch=32, opt_batch=16)
    assert tuned_for(shapes, options, {"input": (8, 3, "h", "w")}) == shapes, "a fixed batch stays what it is"
    with pytest.raises(BackendError, match="is not from"):
        profile_range({"input": (64, 3, 224, 224)}, options)


@pytest.mark.parametrize("options", [{"opt_batch": 8}, {"opt_batch": 33, "max_batch": 32}])
def test_a_tuned_batch_lies_within_the_range(options):
    with pytest.raises(PlanError, match="opt_batch"):
        parse_options(options)
