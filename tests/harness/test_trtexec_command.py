"""Command lines of trtexec for TensorRT 8, 10 and 11."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_harness.backends.trtexec_command import (
    Tool,
    build_command,
    in_graph,
    measuring_flags,
    precision_flags,
    precisions,
    profile_command,
    run_command,
    shapes_spec,
)
from enginewatch_harness.backends.trtexec_options import TrtexecOptions, parse_options

T8, T10, T11 = (Tool(path="/opt/trtexec", version=version) for version in ("8.6.0", "10.16.1", "11.1.0"))
SHAPES = {"input": (8, 3, 224, 224)}
PRECISION_FLAGS = {"--fp16", "--bf16", "--int8", "--fp8", "--best"}


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
        "--memPoolSize=workspace:1024",
        "--timingCacheFile=/tc",
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
    for precision in precisions(tool.major):
        flags = PRECISION_FLAGS & set(built(tool, precision))
        if tool.major >= 11:
            assert not flags, "TensorRT 11 ends with 'Unknown option'"
        elif precision in ("fp32", "tf32"):
            assert not flags
        else:
            assert flags == {f"--{precision}"}
    assert ("--noTF32" in built(tool, "fp32")) is True
    assert ("--noTF32" in built(tool, "tf32")) is False


def test_precisions_that_a_version_lacks_are_refused():
    assert "bf16" not in precisions(8)
    assert "bf16" in precisions(10)
    for tool, precision in ((T8, "bf16"), (T10, "q8_0"), (T11, "best")):
        with pytest.raises(BackendError, match=precision) as caught:
            precision_flags(tool, precision)
        assert caught.value.code == "unsupported_precision"


def test_tensorrt_11_wants_the_precision_in_the_graph():
    assert {precision for precision in precisions(11) if in_graph(T11, precision)} == {"fp16", "bf16", "int8"}
    assert not any(in_graph(tool, "fp16") for tool in (T8, T10))


def test_protocols_are_stated_for_each_version():
    quiet = ("--useCudaGraph", "--useSpinWait", "--noDataTransfers")
    assert all(measuring_flags(tool, "quiet") == quiet for tool in (T8, T10, T11))
    assert measuring_flags(T10, "classic") == ()
    assert measuring_flags(T11, "classic") == ("--noCudaGraph", "--noSpinWait", "--includeDataTransfers")


def test_no_profiler_is_ever_in_a_timed_run():
    for tool in (T8, T10, T11):
        assert not [flag for flag in run(tool) if "rofile" in flag and "profilingVerbosity" not in flag]
        command = profile_command(
            tool, TrtexecOptions(), engine=Path("/e"), shapes={}, profile=Path("/p"), layers=Path("/l")
        )
        assert {"--separateProfileRun", "--dumpProfile", "--exportProfile=/p"} <= set(command)
        assert "--useCudaGraph" not in command


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
        ({"trtexec": ""}, "trtexec"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(PlanError) as caught:
        parse_options(options)
    assert words in str(caught.value)


def test_good_options_are_read():
    parsed = parse_options({"protocol": "classic", "max_batch": 16, "threads": 1, "build_timeout_s": 60})
    assert parsed == TrtexecOptions(protocol="classic", max_batch=16, build_timeout_s=60.0)
