"""The trtexec backend against a stand-in that replays recordings of TensorRT 8.6: output, exports, exit status."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import Phase
from enginewatch_db.tables import LATENCY_SAMPLES, LAYERS
from enginewatch_harness.backends import trtexec_find
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.trtexec import TrtexecBackend, _other_device
from enginewatch_harness.models import input_shapes, write_model
from enginewatch_harness.parse.trtexec_log import parse_log

DATA = Path(__file__).parent.parent / "data" / "harness" / "trtexec"
BACKEND = TrtexecBackend()

STAND_IN = '''#!{python}
"""Replays one recorded run of trtexec, chosen by what the command line asks for."""
import gzip, json, os, resource, signal, sys
from pathlib import Path

data, plan = Path({data!r}), json.loads(Path({plan!r}).read_text())
options = dict(item.partition("=")[::2] for item in sys.argv[1:])
action = "help" if "--help" in options else "build" if "--saveEngine" in options else \\
    "profile" if "--exportProfile" in options else "infer" if "--loadInputs" in options else \\
    "plan" if "--getPlanVersionOnly" in options else "run"
with open({calls!r}, "a") as log:
    log.write(json.dumps([action, sys.argv[1:]]) + "\\n")
name, exports = plan[action]["name"], plan[action].get("exports", {{}})


def recorded(suffix):
    return gzip.decompress((data / (name + suffix + ".gz")).read_bytes())


for flag, source in exports.items():
    if flag in options:
        content = source.encode() if flag == "--saveEngine" else source[1].encode() if source[0] == "text" else \\
            gzip.decompress((data / (source + ".gz")).read_bytes())
        Path(options[flag]).write_bytes(content)
said = plan[action].get("stdout", "").encode() or recorded(".stdout.log")
said = said.replace(b"v8600", plan.get("banner", "v8600").encode()).replace(b"TensorRT version: 8.6.0\\n", b"\\n")
sys.stdout.buffer.write(said.replace(b"TensorRT.trtexec", plan.get("name", "TensorRT.trtexec").encode()))
sys.stdout.flush()
sys.stderr.buffer.write(plan[action].get("stderr", "").encode() or recorded(".stderr.log"))
sys.stderr.flush()
code = int((data / (name + ".rc")).read_text())
if code < 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
'''

GOOD = {
    "help": {"name": "help"},
    "build": {"name": "build-resnet50-fp16", "exports": {"--saveEngine": "an engine"}},
    "run": {
        "name": "resnet50-fp16-b8",
        "exports": {
            "--exportTimes": "resnet50-fp16-b8.times.json",
            "--exportLayerInfo": "resnet50-fp16-b8.layers.json",
        },
    },
    "profile": {
        "name": "resnet50-fp16-b8",
        "exports": {
            "--exportProfile": "resnet50-fp16-b8.profile.json",
            "--exportLayerInfo": "resnet50-fp16-b8.layers.json",
        },
    },
}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a stand-in in place of trtexec; returns a function that changes what it replays, and its calls."""
    plan, calls, path = tmp_path / "plan.json", tmp_path / "calls.jsonl", tmp_path / "bin" / "trtexec"

    def replay(**changes) -> None:
        plan.write_text(json.dumps({**GOOD, **changes}))

    path.parent.mkdir()
    path.write_text(STAND_IN.format(python=sys.executable, data=str(DATA), plan=str(plan), calls=str(calls)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    replay()
    monkeypatch.setenv("TRTEXEC", str(path))
    trtexec_find._identify.cache_clear()
    trtexec_find.gpu_name.cache_clear()
    yield replay, lambda: [json.loads(line) for line in calls.read_text().splitlines()]
    trtexec_find._identify.cache_clear()
    trtexec_find.gpu_name.cache_clear()


@pytest.fixture
def context(tmp_path) -> Context:
    phases: list[Phase] = []
    return Context(work_dir=tmp_path / "work", t0_ns=time.monotonic_ns(), enter=phases.append, progress=lambda *_: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model("convnet_tiny", tmp_path_factory.mktemp("models") / "m.onnx")


@pytest.fixture
def job(model) -> Job:
    return Job(
        case_key="resnet50/trtexec/fp16/b8",
        workload="resnet50",
        model_path=model,
        model_name="resnet50",
        precision="fp16",
        warmup_s=0.5,
        duration_s=4.0,
        seed=1,
        shapes=input_shapes("convnet_tiny", 8),
    )


def changed(job: Job, **changes) -> Job:
    import dataclasses

    return dataclasses.replace(job, **changes)


def test_availability(tool):
    found = BACKEND.availability()
    assert found.available
    assert found.version == "8.6.0"
    assert found.precisions == ("fp32", "tf32", "fp16", "int8", "fp8", "best")
    assert found.device


def test_an_absent_tool_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "none"))
    found = BACKEND.availability()
    assert not found.available
    assert "none" in (found.why or "")
    assert "TRTEXEC" in (found.remedy or "")


def test_a_tool_without_its_libraries_is_told(tmp_path, monkeypatch):
    path = tmp_path / "trtexec"
    path.write_text("#!/bin/sh\necho 'trtexec: error while loading shared libraries: libnvinfer.so.8' >&2\nexit 127\n")
    path.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(path))
    found = BACKEND.availability()
    assert not found.available
    assert "libnvinfer.so.8" in (found.why or "")
    assert "LD_LIBRARY_PATH" in (found.remedy or "")


def test_the_option_of_the_plan_comes_first(tool, tmp_path, job, context):
    with pytest.raises(NotAvailableError, match="elsewhere"):
        BACKEND.build(changed(job, options={"trtexec": str(tmp_path / "elsewhere")}), tmp_path / "engine", context)


def test_build_measure_and_profile(tool, job, tmp_path, context):
    _, calls = tool
    target = tmp_path / "cache" / "engine"
    target.parent.mkdir()
    record = BACKEND.build(job, target, context)
    assert target.read_bytes() == b"an engine"
    assert [item.name for item in target.parent.iterdir()] == ["engine"]
    assert record.size_bytes == 9
    assert record.build_time_s == 57.0823
    assert record.details["build"]["precision"] == "FP32+FP16"
    assert record.details["tensorrt"] == "8.6.0"
    assert record.details["reasons"] == [{"code": "teardown_crash", "detail": "signal 11 after the result was saved"}]
    assert "--saveEngine=" in record.details["command"]
    json.dumps(record.details)

    result = BACKEND.measure(changed(job, options={"protocol": "classic"}), record, target, context)
    samples = result.tables["latency_samples"]
    assert samples.schema == LATENCY_SAMPLES
    assert samples.num_rows == 5866
    assert result.counts == {"inferences": 5866}
    assert np.median(samples["gpu_ns"].to_numpy()) == pytest.approx(640_015, rel=1e-4)
    starts = samples["start_ns"].to_numpy()
    assert starts[0] + context.t0_ns == result.window_ns[0]
    assert (result.window_ns[1] - result.window_ns[0]) / 1e9 == pytest.approx(4.00133, rel=1e-4)
    assert result.window_ns[0] >= context.t0_ns
    assert result.realised_precision == "fp16"
    assert result.effective_options == {"cuda_graph": False, "spin_wait": False, "data_transfers": True, "streams": 1}
    assert {reason.code for reason in result.reasons} == {"teardown_crash", "enqueue_bound", "gpu_time_unstable"}
    assert result.versions == {"tensorrt": "8.6.0"}
    load = next(metric for metric in result.metrics if metric.metric == "load_time_s")
    assert load.value == pytest.approx(0.0836916 + 0.0520382)
    told = {metric.metric: metric for metric in result.metrics}
    assert told["enqueue_p50_ms"].value == pytest.approx(0.6, abs=0.2)
    assert told["context_memory_mib"].value is None, "8.6 does not print it"
    assert told["context_memory_mib"].absent_reason
    assert list(result.tables) == ["latency_samples"], "layers come from the profile, with their times"
    assert record.compute_capability == "9.0"
    assert (record.peak_gpu_mem_mib, record.peak_host_mem_mib) == (230, 3056)
    profiled = BACKEND.profile(job, record, target, context)
    layers = profiled.tables["layers"]
    assert layers.schema == LAYERS
    assert layers.num_rows == 155
    assert layers["mean_ns"].null_count == 0
    assert profiled.realised_precision == "fp16"

    assert [action for action, _ in calls()] == ["help", "build", "run", "profile"]
    flags = dict(calls())
    assert {"--warmUp=500", "--duration=4", "--infStreams=1"} <= set(flags["run"])
    assert not {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"} & set(flags["run"])
    assert {"--fp16", "--optShapes=input:8x3x32x32"} <= set(flags["build"])
    assert not [flag for flag in flags["run"] if "dumpProfile" in flag]


def test_what_was_measured_in_another_way_is_rejected(tool, job, tmp_path, context):
    (tmp_path / "engine").write_bytes(b"x")
    result = BACKEND.measure(changed(job, options={"idle_ms": 5}), None, tmp_path / "engine", context)
    found = {reason.code: reason for reason in result.reasons}["options_not_obeyed"]
    assert found.effect == "reject"
    for words in (
        "cuda_graph: asked for on, measured with off",
        "data_transfers: asked for off",
        "idle_ms: asked for 5",
    ):
        assert words in found.detail
    assert "streams" not in found.detail
    assert result.effective_options["cuda_graph"] is False


def test_another_gpu_than_the_one_that_the_case_is_bound_to(job):
    log = parse_log(
        b"[07/07/2026-02:10:45] [I] === Device Information ===\n[07/07/2026-02:10:45] [I] Selected Device UUID: GPU-b\n"
    )
    (found,) = _other_device(log, changed(job, device_uuid="GPU-a"))
    assert (found.code, found.detail) == ("options_not_obeyed", "device: asked for GPU-a, measured on GPU-b")
    for uuid in ("GPU-b", "MIG-a", None):
        assert _other_device(log, changed(job, device_uuid=uuid)) == ()


def test_times_of_another_run_are_refused(tool, job, tmp_path, context):
    replay, _ = tool
    (tmp_path / "engine").write_bytes(b"x")
    replay(run={"name": "resnet50-fp16-b8", "exports": {"--exportTimes": "resnet50-fp16-b32.times.json"}})
    with pytest.raises(BackendError, match="the number of queries is") as caught:
        BACKEND.measure(job, None, tmp_path / "engine", context)
    assert caught.value.code == "results_damaged"


def test_a_lost_line_of_the_options_begins_no_new_series(tool, job, tmp_path, context):
    replay, _ = tool
    (tmp_path / "engine").write_bytes(b"x")
    said = gzip.decompress((DATA / "resnet50-fp16-b8.stdout.log.gz").read_bytes()).decode()
    lost = "".join(line for line in said.splitlines(keepends=True) if "Spin-wait: " not in line)
    replay(run={**GOOD["run"], "stdout": lost})
    with pytest.raises(BackendError, match="does not tell spin_wait") as caught:
        BACKEND.measure(job, None, tmp_path / "engine", context)
    assert caught.value.code == "results_damaged"


OUTPUT = """[
  { "name" : "logits"
  , "dimensions" : "2x3"
  , "values" : [ 0.5, -1e-05, nan, inf, -inf, 7 ]
  }
]
"""


def test_infer_writes_raw_inputs_and_reads_the_outputs(tool, job, tmp_path, context):
    replay, calls = tool
    (tmp_path / "engine").write_bytes(b"x")
    replay(infer={"name": "resnet50-fp16-b8", "exports": {"--exportOutput": ["text", OUTPUT]}})
    given = np.arange(8 * 3 * 32 * 32, dtype=np.float64).reshape(8, 3, 32, 32)
    found = BACKEND.infer(job, None, tmp_path / "engine", {"input": given}, context)
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], np.float32([[0.5, -1e-5, np.nan], [np.inf, -np.inf, 7]]))
    raw = np.fromfile(context.work_dir / "trtexec-input0.bin", "<f4")
    np.testing.assert_array_equal(raw, given.astype("<f4").ravel())
    action, flags = calls()[-1]
    assert action == "infer"
    assert "--loadInputs=input:trtexec-input0.bin" in flags
    replay(infer={"name": "resnet50-fp16-b8"})
    with pytest.raises(BackendError, match="wrote no outputs") as caught:
        BACKEND.infer(job, None, tmp_path / "engine", {"input": given}, context)
    assert caught.value.code == "no_samples", "the output of the inference before is never read"


def test_a_model_without_a_precision_flag_is_built_as_its_graph_says(tool, job, tmp_path, context):
    replay, calls = tool
    replay(banner="v101601")
    record = BACKEND.build(changed(job, options={"precision_by": "graph"}), tmp_path / "engine", context)
    flags = calls()[-1][1]
    assert "--stronglyTyped" in flags
    assert "--fp16" not in flags
    assert record.details["model"]["tool"] == "onnxruntime"
    assert record.details["model"]["inputs"] == {"input": "float32"}
    assert BACKEND.engine_options(changed(job, options={"precision_by": "graph"}))["precision_by"] == "graph"


def test_int8_is_calibrated_into_the_graph_for_a_tool_with_flags(tool, job, tmp_path, context):
    replay, calls = tool
    replay(banner="v8600")
    int8 = changed(job, precision="int8", options={"calibration_samples": 2})
    record = BACKEND.build(int8, tmp_path / "engine", context)
    assert {"--int8", "--fp16"} <= set(calls()[-1][1])
    assert "--stronglyTyped" not in calls()[-1][1]
    built_from = next(flag for flag in calls()[-1][1] if flag.startswith("--onnx=")).removeprefix("--onnx=")
    assert built_from != str(job.model_path)
    assert record.details["model"]["tool"] != "none"
    options = BACKEND.engine_options(int8)
    assert options["precision_by"] == "flags and graph"
    assert options["calibration_samples"] == 2
    by_flag = BACKEND.engine_options(changed(int8, options={"precision_by": "flags"}))
    assert "calibration_samples" not in by_flag


def test_cases_of_one_engine_have_one_key(tool, job):
    replay, _ = tool
    replay(banner="v8600")
    wanted = {"max_batch": 32, "opt_batch": 8}
    ones = BACKEND.engine_options(changed(job, options=wanted, shapes={"input": (1, 3, 32, 32)}))
    many = BACKEND.engine_options(changed(job, options=wanted, shapes={"input": (32, 3, 32, 32)}))
    assert ones == many
    assert ones["shapes"] == {"input": [8, 3, 32, 32]}


def test_a_version_mismatch_names_both_versions(tool, job, tmp_path, context):
    replay, _ = tool
    (tmp_path / "engine").write_bytes(b"x")
    replay(
        banner="v101601",
        run={"name": "fail-truncated-engine", "stderr": "[E] Error[1]: Version tag does not match. Note: ...\n"},
        plan={"name": "fail-truncated-engine", "stdout": "Plan was created with TensorRT version 10.8.0\n"},
    )
    with pytest.raises(BackendError, match=r"\(built by TensorRT 10\.8\.0, run by 10\.16\.1\)") as caught:
        BACKEND.measure(job, None, tmp_path / "engine", context)
    assert caught.value.code == "version_mismatch"


def test_the_banner_may_have_any_name(tool, monkeypatch):
    replay, _ = tool
    replay(name="NVIDIA RTX tool", banner="v10500")
    found = trtexec_find.find_tool(None)
    assert (found.version, found.rtx) == ("1.5.0", True)


def test_the_precision_is_read_back_without_a_profile(tool, job, tmp_path, context):
    (tmp_path / "engine").write_bytes(b"x")
    result = BACKEND.measure(job, None, tmp_path / "engine", context)
    assert result.realised_precision == "fp16"
    assert "teardown_crash" not in {reason.code for reason in result.reasons}


def test_profile_alone(tool, job, tmp_path, context):
    (tmp_path / "engine").write_bytes(b"x")
    table = BACKEND.profile(job, None, tmp_path / "engine", context).tables["layers"]
    assert table.num_rows == 155
    assert sum(table["time_pct"].to_pylist()) == pytest.approx(100, abs=0.01)


def test_the_printed_table_stands_in_for_a_missing_profile(tool, job, tmp_path, context):
    replay, _ = tool
    replay(profile={"name": "resnet50-fp16-b8"})
    (tmp_path / "engine").write_bytes(b"x")
    table = BACKEND.profile(job, None, tmp_path / "engine", context).tables["layers"]
    assert table.num_rows == 105, "layers without time are not in the printed table"


def test_exports_of_an_earlier_run_are_never_read(tool, job, tmp_path, context):
    replay, _ = tool
    (tmp_path / "engine").write_bytes(b"x")
    BACKEND.measure(job, None, tmp_path / "engine", context)
    replay(run={"name": "resnet50-fp16-b8"})
    with pytest.raises(BackendError, match=r"no trtexec\.times\.json") as caught:
        BACKEND.measure(job, None, tmp_path / "engine", context)
    assert caught.value.code == "no_samples"


@pytest.mark.parametrize(
    ("recording", "code"),
    [
        ("fail-flag", "unknown_flag"),
        ("fail-missing-onnx", "model_missing"),
        ("fail-shape", "shape_outside_profile"),
        ("fail-truncated-engine", "engine_corrupt"),
    ],
)
def test_failures_of_a_run(recording, code, tool, job, tmp_path, context):
    replay, _ = tool
    replay(run={"name": recording})
    (tmp_path / "engine").write_bytes(b"x")
    with pytest.raises(BackendError) as caught:
        BACKEND.measure(job, None, tmp_path / "engine", context)
    assert caught.value.code == code
    assert caught.value.message.startswith("resnet50/trtexec/fp16/b8: ")


@pytest.mark.parametrize(("recording", "code"), [("fail-flag", "unknown_flag"), ("fail-missing-onnx", "model_missing")])
def test_failures_of_a_build_leave_nothing(recording, code, tool, job, tmp_path, context):
    replay, _ = tool
    replay(build={"name": recording, "exports": {"--saveEngine": "half an engine"}})
    with pytest.raises(BackendError) as caught:
        BACKEND.build(job, tmp_path / "cache-engine", context)
    assert caught.value.code == code
    assert not list(tmp_path.glob("*cache-engine*"))


def test_a_crash_without_an_engine_is_a_failure(tool, job, tmp_path, context):
    replay, _ = tool
    replay(build={"name": "build-resnet50-fp16"})
    with pytest.raises(BackendError, match="SIGSEGV") as caught:
        BACKEND.build(job, tmp_path / "engine", context)
    assert caught.value.code == "killed"


def test_tensorrt_11_gets_the_precision_in_the_graph(tool, job, tmp_path, context):
    replay, calls = tool
    replay(banner="v110100")
    for precision, dtype in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        BACKEND.build(changed(job, precision=precision), tmp_path / precision, context)
        flags = calls()[-1][1]
        assert f"--{precision}" not in flags
        converted = next(flag for flag in flags if flag.startswith("--onnx=")).removeprefix("--onnx=")
        kinds = {weight.data_type for weight in onnx.load(converted).graph.initializer}
        assert dtype in kinds
        assert onnx.TensorProto.FLOAT not in kinds


def test_int8_for_tensorrt_11_is_symmetric(tool, job, tmp_path, context):
    replay, calls = tool
    replay(banner="v110100")
    BACKEND.build(changed(job, precision="int8"), tmp_path / "int8", context)
    converted = next(flag for flag in calls()[-1][1] if flag.startswith("--onnx=")).removeprefix("--onnx=")
    graph = onnx.load(converted).graph
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [weights[node.input[2]] for node in nodes]
    assert nodes
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}, "no int32 biases, no unsigned activations"
    assert not any(zero.any() for zero in zeros)


def test_a_precision_that_the_version_lacks(tool, job, tmp_path, context):
    with pytest.raises(BackendError, match=r"TensorRT 8\.6\.0 cannot build precision 'bf16'") as caught:
        BACKEND.build(changed(job, precision="bf16"), tmp_path / "engine", context)
    assert caught.value.code == "unsupported_precision"


def test_engine_options_hold_what_changes_an_engine(job):
    base = BACKEND.engine_options(job)
    assert base == BACKEND.engine_options(changed(job, options={"protocol": "classic", "streams": 2}))
    for options in ({"max_batch": 32}, {"optimization_level": 5}, {"workspace_mib": 64}):
        assert BACKEND.engine_options(changed(job, options=options)) != base
    assert BACKEND.engine_options(changed(job, shapes={"input": (1, 3, 32, 32)})) != base


def test_the_key_has_the_content_of_plugins_and_whether_the_timing_cache_is_strict(
    job, tool, tmp_path, context, monkeypatch
):
    _, calls = tool
    monkeypatch.chdir(tmp_path)
    library = tmp_path / "plugin.so"
    plugged = changed(job, options={"plugins": ["plugin.so"]})
    with pytest.raises(BackendError, match=r"none\.so does not exist") as caught:
        BACKEND.engine_options(changed(job, options={"plugins": ["./none.so"]}))
    assert caught.value.code == "plugin_missing"
    library.write_bytes(b"one")
    one = BACKEND.engine_options(plugged)
    assert one == BACKEND.engine_options(changed(job, options={"plugins": [str(library)]}))
    library.write_bytes(b"two")
    assert BACKEND.engine_options(plugged) != one
    by_name = BACKEND.engine_options(changed(job, options={"plugins": ["libknown.so"]}))
    assert by_name["plugins"] == ["libknown.so"], "the dynamic loader finds it"
    BACKEND.build(plugged, tmp_path / "new.engine", context)
    assert f"--staticPlugins={library}" in calls()[-1][1], "the tool runs in a folder of its own"
    cached, strict = {"timing_cache": "tactics"}, {"timing_cache": "tactics", "strict_timing_cache": True}
    keys = [BACKEND.engine_options(changed(job, options=options)) for options in (cached, strict)]
    assert keys[0] != keys[1]


def test_a_build_that_hangs_is_stopped(tmp_path, monkeypatch, job, context):
    path = tmp_path / "trtexec"
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in --help) echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8600] # trtexec --help"; exit 0;; esac\n'
        "exec sleep 60\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(path))
    with pytest.raises(BackendError) as caught:
        BACKEND.build(changed(job, options={"build_timeout_s": 0.3}), tmp_path / "engine", context)
    assert caught.value.code == "timeout"


def test_a_missing_engine_and_a_missing_model(tool, job, tmp_path, context):
    for act in (
        lambda: BACKEND.measure(job, None, tmp_path / "none.engine", context),
        lambda: BACKEND.build(changed(job, model_path=tmp_path / "none.onnx"), tmp_path / "engine", context),
    ):
        with pytest.raises(BackendError) as caught:
            act()
        assert caught.value.code == "model_missing"


def test_the_tool_is_found_on_the_path(tool, monkeypatch):
    folder = Path(os.environ["TRTEXEC"]).parent
    monkeypatch.delenv("TRTEXEC")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert trtexec_find.find_tool(None).path == str(folder / "trtexec")
