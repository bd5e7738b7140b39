"""ONNX Runtime's GPU providers, as far as a machine without a GPU can tell: options, fallbacks, timing."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from enginewatch_db.errors import BackendError, PlanError
from enginewatch_harness.backends import ort_gpu
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
from enginewatch_harness.backends.ort_gpu import (
    GpuInference,
    Kept,
    is_fallback,
    missing_library,
    placement,
    provider_list,
)
from enginewatch_harness.backends.ort_kept import kept_folders
from enginewatch_harness.backends.ort_options import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, parse_options
from enginewatch_harness.models import input_shapes, write_model

DISABLED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, but "
    "fallback to CPU EP has been explicitly disabled by the user."
)
NO_TENSORRT = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void RegisterTensorRTPluginsAsCustomOps() "
    "Please install TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH"
)
"""Both as onnxruntime-gpu 1.31.1 wrote them on a machine without CUDA."""


def job_of(tmp_path: Path, **options) -> Job:
    path = tmp_path / "model.onnx"
    write_model("convnet_tiny", path)
    return Job(
        case_key="convnet/onnxruntime/fp32/b1",
        workload="convnet",
        model_path=path,
        model_name="convnet",
        precision="fp32",
        warmup_s=0.01,
        duration_s=0.02,
        seed=1,
        shapes=input_shapes("convnet_tiny", 1),
        options=options,
    )


def context_of(tmp_path: Path) -> Context:
    return Context(
        work_dir=tmp_path / "work", t0_ns=time.monotonic_ns(), enter=lambda _: None, progress=lambda *_: None
    )


def options_of(**changes):
    return parse_options(changes)


@pytest.mark.parametrize(
    ("short", "name"), [("cpu", CPU_PROVIDER), ("cuda", CUDA_PROVIDER), ("TensorRT", TENSORRT_PROVIDER), ("XEP", "XEP")]
)
def test_providers_have_short_names(short, name):
    assert options_of(provider=short).provider == name


def test_fp32_on_cuda_is_not_silently_tf32():
    [(name, settings)] = provider_list(options_of(provider="cuda"), "fp32", kept=None, stream=None)
    assert (name, settings["use_tf32"]) == (CUDA_PROVIDER, "0")
    [(_, settings)] = provider_list(options_of(provider="cuda"), "tf32", kept=None, stream=None)
    assert settings["use_tf32"] == "1"


def test_nothing_is_tuned_while_measuring_and_the_graph_is_as_asked():
    [(_, plain)] = provider_list(options_of(provider="cuda"), "fp16", kept=None, stream=7)
    assert (plain["tunable_op_enable"], plain["enable_cuda_graph"], plain["user_compute_stream"]) == ("0", "0", "7")
    [(_, graphed)] = provider_list(options_of(provider="cuda", cuda_graph=True), "fp16", kept=None, stream=None)
    assert graphed["enable_cuda_graph"] == "1"
    assert "user_compute_stream" not in graphed


@pytest.mark.parametrize(
    ("precision", "flag"), [("fp16", "trt_fp16_enable"), ("bf16", "trt_bf16_enable"), ("int8", "trt_int8_enable")]
)
def test_tensorrt_may_choose_from_the_precision_that_is_asked_for(precision, flag):
    found = provider_list(
        options_of(provider="tensorrt"), precision, kept=Kept(engines=Path("e"), timings=Path("t")), stream=None
    )
    assert [name for name, _ in found] == [TENSORRT_PROVIDER, CUDA_PROVIDER]
    settings = found[0][1]
    assert settings[flag] == "True"
    assert (settings["trt_engine_cache_path"], settings["trt_timing_cache_path"]) == ("e", "t")


def test_engines_are_kept_by_the_weights_and_only_timings_are_shared(tmp_path):
    """onnxruntime hashes names: every engine file of ours is called the same, and so are layers of two trainings."""

    def folders(value, beside):
        path = tmp_path / f"{value}-{beside}" / "engine"
        path.parent.mkdir()
        weight = numpy_helper.from_array(np.full((64, 64), value, np.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
            [weight],
        )
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        onnx.save(model, str(path), save_as_external_data=beside, location="weights")
        kept = kept_folders(options_of(provider="tensorrt"), path, tmp_path / "cache")
        assert kept is not None
        assert kept.engines.is_dir()
        assert kept == kept_folders(options_of(provider="tensorrt"), path, tmp_path / "cache")
        return kept

    found = [folders(value, beside) for value in (1, 2) for beside in (False, True)]
    assert len({kept.engines for kept in found}) == 4
    assert {kept.timings for kept in found} == {tmp_path / "cache" / "onnxruntime-tensorrt"}
    path = tmp_path / "1-False" / "engine"
    assert kept_folders(options_of(provider="tensorrt"), path, None) is None
    assert kept_folders(options_of(provider="cuda"), path, tmp_path) is None


def test_fp32_on_tensorrt_enables_nothing_lower():
    found = provider_list(options_of(provider="tensorrt"), "fp32", kept=None, stream=None)
    assert not [name for name in found[0][1] if name.endswith(("16_enable", "8_enable", "cache_enable"))]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_here_fails_the_case_with_one_message(tmp_path, provider):
    with pytest.raises(BackendError) as caught:
        OnnxRuntimeBackend().measure(job_of(tmp_path, provider=provider), None, None, context_of(tmp_path))
    error = caught.value
    assert error.code == "provider_fallback"
    assert "CPUExecutionProvider" in error.message
    assert "onnxruntime-gpu" in error.remedy


@pytest.mark.parametrize("words", [DISABLED, NO_TENSORRT])
def test_onnxruntimes_own_words_for_a_fallback_are_known(words):
    assert is_fallback(words)
    assert not is_fallback("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Conv(11)")


def test_a_missing_library_is_named(tmp_path):
    capi = tmp_path / "capi"
    capi.mkdir()
    fake = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    assert missing_library(fake, CUDA_PROVIDER) is None  # a wheel for the CPU has no such file
    (capi / "libonnxruntime_providers_cuda.so").write_bytes(b"not a library")
    assert missing_library(fake, CUDA_PROVIDER) is None  # a damaged file is no missing one
    assert missing_library(fake, CPU_PROVIDER) is None


def test_the_device_follows_the_provider(monkeypatch):
    monkeypatch.setattr("enginewatch_harness.backends.onnxruntime.first_gpu", lambda: "NVIDIA H200")
    tool = OnnxRuntimeBackend()
    assert tool.device_of({"provider": "cuda"}) == "NVIDIA H200"
    assert tool.uses_gpu({"provider": TENSORRT_PROVIDER})
    assert not tool.uses_gpu({})
    assert tool.device_of({}) != "NVIDIA H200"


def test_gpu_options_are_part_of_the_identity_only_there():
    assert options_of(provider="cuda", cuda_graph=True).effective()["cuda_graph"] is True
    assert "cuda_graph" not in options_of().effective()
    with pytest.raises(PlanError):
        options_of(cuda_graph="yes")


def test_an_inference_lies_between_two_events_and_their_time_is_read_afterwards():
    said = []

    class Cuda:
        def record(self, event, stream):
            said.append((event, stream))

        def wait(self, event):
            said.append(("wait", event))

        def elapsed_ns(self, start, end):
            return {("a", "b"): 1500}[start, end]

    session = SimpleNamespace(run_with_iobinding=lambda binding, settings: said.append((binding, settings)))
    timer = ort_gpu.CudaTimer(cuda=Cuda(), stream="s", events=("a", "b"))
    infer = GpuInference(session=session, binding="bound", timer=timer, settings="unsynchronised")
    infer.run()
    assert said == [("a", "s"), ("bound", "unsynchronised"), ("b", "s"), ("wait", "b")]
    assert list(infer.gpu_ns) == []
    infer.keep()
    assert list(infer.gpu_ns) == [1500]


def test_where_nodes_ran_is_counted():
    assert placement(["CUDAExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider", None]) == (
        "nodes by provider: CPUExecutionProvider 1, CUDAExecutionProvider 2, unknown 1"
    )
