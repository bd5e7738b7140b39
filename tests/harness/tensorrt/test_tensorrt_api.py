from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_db.tables import SCHEMAS
from enginewatch_harness.backends import tensorrt_measure
from enginewatch_harness.backends.tensorrt_api import TensorrtBackend, TensorrtRtxBackend

TENSORRT = ("10.0.1", "10.16.2.5", "11.0.0.114")
RTX = "1.7.1.116"
ALL = (*TENSORRT, RTX)


def backend_of(version):
    return TensorrtRtxBackend() if version == RTX else TensorrtBackend()


def built(module, job, context, tmp_path):
    tool = backend_of(module.__version__)
    return tool, tool.build(job, tmp_path / "engine.plan", context), tmp_path / "engine.plan"


@pytest.mark.parametrize("version", ALL)
def test_a_case_is_built_measured_profiled_and_compared_with_the_names_of_each_version(
    version, fake_tensorrt, job, context, tmp_path
):
    module = fake_tensorrt(version)
    tool, record, path = built(module, job(), context, tmp_path)
    assert record.tool_version == version
    assert (record.peak_gpu_mem_mib, record.peak_host_mem_mib) == (12.0, 3.0)
    assert record.compute_capability == "8.9"
    assert record.realised_precision == "fp16"
    assert [phase["name"] for phase in record.details["phases"]] == ["Building engine"]
    assert record.size_bytes == path.stat().st_size
    measured = tool.measure(job(), record, path, context)
    samples = measured.tables["latency_samples"]
    assert samples.schema.equals(SCHEMAS["latency_samples"])
    assert set(samples.column("gpu_ns").to_pylist()) == {100_000}
    assert measured.counts["inferences"] == samples.num_rows > 0
    assert measured.effective_options["cuda_graph"] == ("whole_graph_capture" if version == RTX else True)
    assert measured.device == "NVIDIA Fake"
    values = {item.metric: item.value for item in measured.metrics}
    assert values["context_memory_mib"] == 2.0
    assert values["first_inference_ms"] > 0
    assert measured.reasons == ()
    profiled = tool.profile(job(), record, path, context)
    layers = profiled.tables["layers"].to_pylist()
    backend = tool.name
    assert [(row["name"], row["mean_ns"], row["source"]) for row in layers] == [
        ("conv", 500_000, backend),
        ("reformat", 0, backend),
    ]
    assert profiled.realised_precision == "fp16"
    inputs = {"input": np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)}
    outputs = tool.infer(job(), record, path, inputs, context)
    wanted = onnxruntime.InferenceSession(job().model_path).run(None, inputs)
    np.testing.assert_allclose(next(iter(outputs.values())), wanted[0], rtol=1e-6)


@pytest.mark.parametrize("version", ALL)
def test_networks_are_strongly_typed_by_the_flag_that_each_version_has(version, fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt(version)
    built(module, job("fp32"), context, tmp_path)
    assert module.fake.seen["strong"]
    assert module.fake.seen["verbosity"] == "DETAILED"
    assert "TF32" not in module.fake.seen["flags"]
    assert not {"FP16", "BF16", "INT8", "REFIT"} & set(module.fake.seen["flags"])


def test_tf32_is_a_flag_and_fp16_a_graph(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    built(module, job("tf32"), context, tmp_path)
    assert "TF32" in module.fake.seen["flags"]
    _, record, _ = built(module, job("fp16"), context, tmp_path)
    assert record.details["graph"]["tool"] != "source"


def test_flags_of_precision_exist_in_10_and_are_refused_by_name_in_11(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("10.16.2.5")
    _, record, _ = built(module, job("fp16", precision_by="flags"), context, tmp_path)
    assert "FP16" in module.fake.seen["flags"]
    assert not module.fake.seen["strong"]
    assert record.details["graph"]["tool"] == "source"
    fake_tensorrt("11.0.0.114")
    with pytest.raises(BackendError, match=r"11\.0\.0\.114 has no flag for precision 'fp16'") as error:
        TensorrtBackend().build(job("fp16", precision_by="flags"), tmp_path / "e.plan", context)
    assert error.value.code == "unsupported_precision"


def test_builder_options_reach_the_builder(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    options = {
        "optimization_level": 5,
        "workspace_mib": 64,
        "sparsity": "enable",
        "version_compatible": True,
        "hardware_compatibility": "ampere+",
        "max_batch": 8,
        "max_tactics": 3,
    }
    built(module, job(**options), context, tmp_path)
    seen = module.fake.seen
    assert (seen["level"], seen["pools"], seen["hardware"]) == (5, {"WORKSPACE": 64 << 20}, "AMPERE_PLUS")
    assert {"SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "MONITOR_MEMORY"} <= set(seen["flags"])
    assert seen["profile"] == {"input": ((1, 3, 32, 32), (2, 3, 32, 32), (8, 3, 32, 32))}
    assert seen["max_num_tactics"] == 3


def test_an_option_that_a_version_lacks_is_refused_by_name(fake_tensorrt, job, context, tmp_path):
    fake_tensorrt("10.0.1")
    with pytest.raises(BackendError, match=r"tensorrt 10\.0\.1 has no IBuilderConfig\.max_num_tactics"):
        TensorrtBackend().build(job(max_tactics=3), tmp_path / "e.plan", context)
    with pytest.raises(BackendError, match=r"HardwareCompatibilityLevel\.SAME_COMPUTE_CAPABILITY"):
        TensorrtBackend().build(job(hardware_compatibility="sameComputeCapability"), tmp_path / "e.plan", context)


def test_shapes_of_a_profile_can_be_given(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    built(module, job(min_shapes={"input": [1, 3, 32, 32]}, max_shapes={"input": [16, 3, 32, 32]}), context, tmp_path)
    assert module.fake.seen["profile"]["input"][2] == (16, 3, 32, 32)
    with pytest.raises(BackendError) as error:
        TensorrtBackend().build(job(max_shapes={"input": [1, 3, 32, 32]}), tmp_path / "e.plan", context)
    assert error.value.code == "shape_outside_profile"
    with pytest.raises(BackendError, match="max_shapes names 'image', which is no dynamic input"):
        TensorrtBackend().build(job(max_shapes={"image": [1, 3, 32, 32]}), tmp_path / "e.plan", context)


def test_a_fixed_first_dimension_is_no_batch_of_the_profile(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    made = job(max_batch=8)
    model = onnx.load(made.model_path)
    first = model.graph.input[0].type.tensor_type.shape.dim[0]
    (tmp_path / "fixed").mkdir()
    path = tmp_path / "fixed" / "model.onnx"
    fixed = {name: (128, *dims[1:]) for name, dims in made.shapes.items()}
    first.dim_value = 128
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    onnx.save(model, path)
    built(module, replace(made, model_path=path, shapes=fixed), context, tmp_path)
    assert module.fake.seen["profile"] == {"input": ((128, 3, 32, 32),) * 3}


def test_one_engine_for_every_batch(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    options = {"max_batch": 8, "opt_batch": 4}
    built(module, job(**options), context, tmp_path)
    assert module.fake.seen["profile"] == {"input": ((1, 3, 32, 32), (4, 3, 32, 32), (8, 3, 32, 32))}
    tool = TensorrtBackend()
    keys = [tool.engine_options(job(batch=batch, **options)) for batch in (1, 8)]
    assert keys[0] == keys[1]
    assert tool.engine_options(job(**(options | {"opt_batch": 5}))) != keys[0]


def test_a_build_that_takes_too_long_is_cancelled(fake_tensorrt, job, context, tmp_path):
    fake_tensorrt("11.0.0.114")
    with pytest.raises(BackendError, match=r"cancelled after 0 s, 1 steps done") as error:
        TensorrtBackend().build(job(build_timeout_s=0), tmp_path / "e.plan", context)
    assert error.value.code == "timeout"
    assert not list(tmp_path.glob("*.plan*"))
    assert "BuildCanceled" in (context.work_dir / "tensorrt-build.log").read_text()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Error[1]: Error Code 1: Cuda Runtime (out of memory)", "out_of_memory"),
        ("Error Code 10: Internal Error (Could not find any implementation for node {x}.)", "build_failed"),
        ("something that nobody knows", "build_failed"),
    ],
)
def test_a_failed_build_has_the_code_of_the_librarys_words(said, code, fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    module.fake.build_error = said
    with pytest.raises(BackendError) as error:
        TensorrtBackend().build(job(), tmp_path / "e.plan", context)
    assert error.value.code == code
    assert said[:30] in error.value.message


def test_a_model_that_cannot_be_parsed_is_corrupt(fake_tensorrt, job, context, tmp_path):
    fake_tensorrt("11.0.0.114")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07garbage")
    with pytest.raises(BackendError) as error:
        TensorrtBackend().build(replace(job(), model_path=broken), tmp_path / "e.plan", context)
    assert error.value.code == "model_corrupt"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"junk", "engine_corrupt"), (json.dumps({"version": "10.0.1"}).encode(), "version_mismatch")],
)
def test_an_engine_that_cannot_be_loaded_has_a_code(content, code, fake_tensorrt, job, context, tmp_path):
    fake_tensorrt("11.0.0.114")
    (tmp_path / "e.plan").write_bytes(content)
    with pytest.raises(BackendError) as error:
        TensorrtBackend().measure(job(), None, tmp_path / "e.plan", context)
    assert error.value.code == code


def test_a_batch_outside_the_profile_and_a_missing_engine_have_codes(fake_tensorrt, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt("10.16.2.5"), job(batch=2), context, tmp_path)
    with pytest.raises(BackendError) as error:
        tool.measure(job(batch=4), record, path, context)
    assert error.value.code == "shape_outside_profile"
    with pytest.raises(BackendError) as error:
        tool.measure(job(), record, tmp_path / "gone.plan", context)
    assert error.value.code == "model_missing"


def test_a_graph_that_cannot_be_captured_is_said_and_the_run_goes_on(fake_tensorrt, cuda, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    cuda.fail["cudaGraphInstantiate"] = "cudaErrorStreamCaptureUnsupported"
    measured = tool.measure(job(), record, path, context)
    assert [reason.code for reason in measured.reasons] == ["cuda_graph_failed"]
    assert measured.effective_options["cuda_graph"] is False
    assert "cudaGetLastError" in cuda.calls  # else the next call reports it again
    assert measured.tables["latency_samples"].num_rows > 0


def test_the_classic_protocol_transfers_blocks_and_launches_no_graph(fake_tensorrt, cuda, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    measured = tool.measure(job(protocol="classic"), record, path, context)
    assert measured.effective_options == {"cuda_graph": False, "spin_wait": False, "data_transfers": True, "streams": 1}
    assert set(measured.tables["latency_samples"].column("h2d_ns").to_pylist()) == {0}
    assert cuda.flags == cuda.cudaDeviceScheduleBlockingSync
    assert "cudaGraphLaunch" not in cuda.calls
    mixed = tool.measure(job(protocol="classic", cuda_graph=True), record, path, context)
    assert mixed.effective_options["cuda_graph"] is True
    assert cuda.calls.count("cudaGraphLaunch") >= mixed.counts["inferences"]


def test_inferences_too_short_for_events_are_timed_in_bursts(fake_tensorrt, cuda, job, context, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt_measure, "_BURSTS", 8)  # the stand-in really computes, and its clock is exact
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    cuda.gpu_ns = 3_210
    measured = tool.measure(job(), record, path, context)
    values = {item.metric: item.value for item in measured.metrics}
    assert values["gpu_time_p50_ms"] == pytest.approx(0.00321, rel=0.005)  # single ones would read 0.003 or 0.0035
    samples = measured.tables["latency_samples"]
    assert samples.column("gpu_ns").null_count == samples.num_rows
    assert "bursts" in measured.notes[0]


def test_memory_is_given_back_whatever_happens(fake_tensorrt, cuda, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    tool, record, path = built(module, job(), context, tmp_path)
    tool.measure(job(), record, path, context)
    module.fake.enqueue_error = "Cuda failure: an illegal memory access was encountered"
    with pytest.raises(BackendError) as error:
        tool.measure(job(), record, path, context)
    assert error.value.code == "crashed"
    assert cuda.memory == {}


def test_no_gpu_memory_is_out_of_memory(fake_tensorrt, cuda, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    cuda.fail["cudaMalloc"] = "cudaErrorMemoryAllocation"
    with pytest.raises(BackendError, match="cudaErrorMemoryAllocation in words") as error:
        tool.measure(job(), record, path, context)
    assert error.value.code == "out_of_memory"


def test_an_output_that_is_not_finite_fails_the_run(fake_tensorrt, cuda, job, context, tmp_path, monkeypatch):
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run", lambda *args, **rest: [item * np.nan for item in run(*args, **rest)]
    )
    with pytest.raises(BackendError) as error:
        tool.measure(job(), record, path, context)
    assert error.value.code == "output_not_finite"


def test_a_profiler_that_hears_nothing_is_no_sample(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    tool, record, path = built(module, job(), context, tmp_path)
    module.fake.layer_times = False
    with pytest.raises(BackendError) as error:
        tool.profile(job(), record, path, context)
    assert error.value.code == "no_samples"


def test_skipped_tactics_of_a_build_go_over_to_its_runs(fake_tensorrt, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt("11.0.0.114"), job(), context, tmp_path)
    stored = {"reasons": [{"code": "tactics_skipped_for_memory", "detail": "3 tactics skipped"}]}
    measured = tool.measure(job(), replace(record, details=stored), path, context)
    assert [reason.code for reason in measured.reasons] == ["tactics_skipped_for_memory"]


def test_what_an_engine_depends_on_is_in_its_key(job):
    tool = TensorrtBackend()
    keys = [
        tool.engine_options(job(batch=1)),
        tool.engine_options(job(batch=2)),
        tool.engine_options(job("fp16")),
        tool.engine_options(job("int8")),
        tool.engine_options(job("int8", calibration_seed=4)),
        tool.engine_options(job(optimization_level=1)),
        tool.engine_options(job("fp16", precision_by="flags")),
    ]
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == len(keys)
    assert tool.engine_options(job()) == tool.engine_options(job(protocol="classic", nvtx=True))
    with pytest.raises(PlanError, match="did you mean 'optimization_level'"):
        tool.engine_options(job(optimisation_level=1))


# --- TensorRT-RTX


def test_rtx_keeps_compiled_kernels_and_tells_cold_from_warm(fake_tensorrt, job, context, tmp_path):
    tool, record, path = built(fake_tensorrt(RTX), job(), context, tmp_path)
    cold = {item.metric: item.value for item in tool.measure(job(), record, path, context).metrics}
    warm = {item.metric: item.value for item in tool.measure(job(), record, path, context).metrics}
    assert cold["first_inference_ms"] is not None
    assert cold["first_inference_cached_ms"] is None
    assert warm["first_inference_ms"] is None
    assert warm["first_inference_cached_ms"] is not None
    without = tool.measure(job(runtime_cache=False), record, path, context)
    assert not any("runtime cache" in note for note in without.notes)


def test_rtx_captures_its_own_graphs_and_is_told_how_to_compile(fake_tensorrt, cuda, job, context, tmp_path):
    module = fake_tensorrt(RTX)
    tool, record, path = built(module, job(), context, tmp_path)
    measured = tool.measure(job(kernel_specialization="lazy"), record, path, context)
    config = module.fake.context._config
    assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
    assert config.dynamic_shapes_kernel_specialization_strategy.name == "LAZY"
    assert measured.effective_options["kernel_specialization"] == "lazy"
    assert "cudaStreamBeginCapture" not in cuda.calls
    assert measured.effective_options["cuda_graph"] == "whole_graph_capture"
    assert not any("captured" in note for note in measured.notes)
    module.fake.capturable = False
    assert any("captured" in note for note in tool.measure(job(), record, path, context).notes)
    tool.profile(job(), record, path, context)
    assert module.fake.context._config.cuda_graph_strategy.name == "DISABLED"


def test_rtx_builds_for_named_gpus_and_without_one(fake_tensorrt, cuda, job, context, tmp_path):
    module = fake_tensorrt(RTX)
    cuda.devices = 0
    _, record, _ = built(module, job(compute_capabilities=["8.9", "12.0"]), context, tmp_path)
    assert module.fake.seen["capabilities"] == ["SM89", "SM120"]
    assert record.compute_capability is None
    with pytest.raises(BackendError, match=r"no ComputeCapability\.SM90.*it has .*SM89"):
        TensorrtRtxBackend().build(job(compute_capabilities=["9.0"]), tmp_path / "e.plan", context)


def test_rtx_says_why_it_refuses_an_engine(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt(RTX)
    tool, record, path = built(module, job(), context, tmp_path)
    for name, code in (("UNSUPPORTED_CC", "wrong_device"), ("MALFORMED_ENGINE", "engine_corrupt")):
        module.fake.validity = ("INVALID", int(module.EngineInvalidityDiagnostics[name]))
        with pytest.raises(BackendError, match=name) as error:
            tool.measure(job(), record, path, context)
        assert error.value.code == code


# --- the timing cache


def test_the_timing_cache_grows_and_tells_its_misses(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("10.16.2.5")
    cache = tmp_path / "cache" / "tactics"
    first = built(module, job(timing_cache=str(cache)), context, tmp_path)[1].details["timing_cache"]
    again = built(module, job(timing_cache=str(cache)), context, tmp_path)[1].details["timing_cache"]
    assert (first["entries_before"], first["misses"]) == (0, 2)
    assert (again["entries_before"], again["misses"]) == (2, 0)
    assert json.loads(cache.read_text()) == ["tactic-a", "tactic-b"]
    old = fake_tensorrt("10.0.1")
    assert built(old, job(timing_cache=str(cache)), context, tmp_path)[1].details["timing_cache"]["misses"] is None


def test_a_timing_cache_that_another_build_wrote_meanwhile_is_merged(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    cache = tmp_path / "tactics"
    module.fake.step = lambda: cache.write_text('["tactic-of-another"]')
    built(module, job(timing_cache=str(cache)), context, tmp_path)
    assert json.loads(cache.read_text()) == ["tactic-a", "tactic-b", "tactic-of-another"]


def test_a_strict_timing_cache_stays_as_it_is_and_one_of_another_gpu_is_refused(fake_tensorrt, job, context, tmp_path):
    module = fake_tensorrt("11.0.0.114")
    cache = tmp_path / "tactics"
    cache.write_text('["tactic-a"]')
    built(module, job(timing_cache=str(cache), strict_timing_cache=True), context, tmp_path)
    assert "ERROR_ON_TIMING_CACHE_MISS" in module.fake.seen["flags"]
    assert cache.read_text() == '["tactic-a"]'
    cache.write_text('["other GPU"]')
    with pytest.raises(BackendError, match="another GPU or another version"):
        TensorrtBackend().build(job(timing_cache=str(cache)), tmp_path / "e.plan", context)


# --- availability


def test_availability_names_what_is_missing(fake_tensorrt, cuda, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    absent = TensorrtBackend().availability()
    assert not absent.available
    assert "cannot be imported" in str(absent.why)
    assert absent.remedy == "pip install 'enginewatch[tensorrt]'"
    module = fake_tensorrt("10.16.2.5")
    here = TensorrtBackend().availability()
    assert (here.available, here.version, here.device) == (True, "10.16.2.5", "NVIDIA Fake")
    assert {"fp32", "tf32", "fp16", "bf16", "int8"} <= set(here.precisions)
    cuda.devices = 0
    no_gpu = TensorrtBackend().availability()
    assert not no_gpu.available
    assert "there is no GPU to run on" in str(no_gpu.why)
    module.__version__ = "8.6.1"
    assert "too old" in str(TensorrtBackend().availability().why)
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(__import__("sys").modules, "cuda.cudart", None)
    module.__version__ = "10.16.2.5"
    no_bindings = TensorrtBackend().availability()
    assert "cuda-bindings cannot be imported" in str(no_bindings.why)
