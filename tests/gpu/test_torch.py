"""The Torch backends on a real GPU: CUDA events, precisions, CUDA graphs, kernels, accuracy against the CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import time
from pathlib import Path

import numpy as np
import pytest

from enginewatch_db.errors import BackendError
from enginewatch_harness.accuracy.check import check
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.cuda_device import first_gpu
from enginewatch_harness.backends.torch_compile import TorchCompileBackend
from enginewatch_harness.backends.torch_eager import TorchBackend
from enginewatch_harness.backends.torch_tensorrt import TorchTensorRtBackend
from enginewatch_harness.models import input_shapes, write_model

HAS_GPU = first_gpu() is not None and importlib.util.find_spec("torch") is not None
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU and torch")]

LIMITS = {"fp32": 1e-4, "tf32": 5e-3, "fp16": 1e-2, "bf16": 8e-2}
"""Largest relative L2 distance from the fp32 reference of the CPU."""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for kind in ("convnet_tiny", "transformer_tiny"):
        write_model(kind, folder / f"{kind}.onnx")
    return folder


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    folder = tmp_path_factory.mktemp("work")
    return Context(
        work_dir=folder,
        t0_ns=time.monotonic_ns(),
        enter=lambda _: None,
        progress=lambda *_: None,
        cache_dir=folder / "cache",
    )


def job_of(models: Path, kind: str = "convnet_tiny", precision: str = "fp32", batch: int = 4, **options) -> Job:
    return Job(
        case_key=f"{kind}/torch/{precision}/b{batch}",
        workload=kind,
        model_path=models / f"{kind}.onnx",
        model_name=kind,
        precision=precision,
        warmup_s=0.2,
        duration_s=0.5,
        seed=3,
        shapes=input_shapes(kind, batch),
        options={"torch_device": "cuda", **options},
    )


def gpu_ns(found) -> np.ndarray:
    column = found.tables["latency_samples"].column("gpu_ns")
    assert column.null_count == 0
    return column.to_numpy()


def error_of(tool, job, context) -> float:
    metrics = {item.metric: item for item in check(tool, job, None, None, context).metrics}
    value = metrics["output_rel_l2"].value
    assert value is not None, metrics["output_rel_l2"].absent_reason
    return value


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_tiny"])
def test_eager_is_timed_by_events_and_right(models, context, kind, precision):
    tool, job = TorchBackend(), job_of(models, kind, precision)
    found = tool.measure(job, None, None, context)
    latency = found.tables["latency_samples"].column("latency_ns").to_numpy()
    measured = gpu_ns(found)
    assert (measured > 0).all()
    # The events lie inside what the host's clock spans; their own resolution is half a microsecond.
    assert (measured <= latency + 1000).mean() > 0.99
    assert found.realised_precision == precision
    assert found.device == first_gpu() == tool.device_of(job.options)
    assert tool.uses_gpu(job.options)
    assert "cuda" in found.versions
    assert error_of(tool, job, context) < LIMITS[precision]


def test_fp32_is_not_silently_tf32(models, context):
    exact = error_of(TorchBackend(), job_of(models, "transformer_tiny", "fp32", 32), context)
    assert exact < 1e-5


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("kind", ["convnet_tiny", "transformer_tiny"])
def test_compiled_is_right_and_does_not_compile_while_measured(models, context, kind, mode):
    tool, job = TorchCompileBackend(), job_of(models, kind, "fp16", compile_mode=mode)
    found = tool.measure(job, None, None, context)
    metrics = {item.metric: item for item in found.metrics}
    assert metrics["compile_graphs"].value == 1
    assert metrics["compile_graph_breaks"].value == 0
    assert not [reason.code for reason in found.reasons], found.reasons
    assert found.effective_options["cuda_graph"] is (mode == "reduce-overhead")
    assert (gpu_ns(found) > 0).all()
    assert error_of(tool, job, context) < LIMITS["fp16"]


def test_cuda_graphs_beat_eager_launches_on_a_small_model(models, context):
    eager = TorchBackend().measure(job_of(models, "transformer_tiny", "fp16", 1), None, None, context)
    options = {"compile_mode": "reduce-overhead"}
    graphed = TorchCompileBackend().measure(
        job_of(models, "transformer_tiny", "fp16", 1, **options), None, None, context
    )
    ratio = float(np.median(gpu_ns(eager)) / np.median(gpu_ns(graphed)))
    assert ratio > 1.5  # dozens of launches against one: measured far above


def test_kernels_are_listed_and_belong_to_operators(models, context):
    tool, job = TorchBackend(), job_of(models, "transformer_tiny", "fp16")
    tables = tool.profile(job, None, None, context).tables
    kernels = tables["kernels"].to_pylist()
    assert sum(row["time_pct"] for row in kernels) == pytest.approx(100)
    assert any(row["grid"] for row in kernels)
    names = {row["layer_type"] for row in tables["layers"].to_pylist()}
    assert {row["layer"] for row in kernels if row["layer"]} <= names
    assert any("mm" in name or "linear" in name for name in names)


def test_out_of_memory_has_its_code(models, context):
    import torch

    job = job_of(models, batch=4)
    huge = dataclasses.replace(job, shapes={name: (1 << 17, *dims[1:]) for name, dims in job.shapes.items()})
    torch.cuda.set_per_process_memory_fraction(0.01)  # of 139 GiB; the input alone has 1.5
    try:
        with pytest.raises(BackendError) as caught:
            TorchBackend().measure(huge, None, None, context)
        assert caught.value.code == "out_of_memory"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is None, reason="needs torch-tensorrt")
def test_torch_tensorrt_runs_in_tensorrt(models, context):
    tool, job = TorchTensorRtBackend(), job_of(models, "convnet_tiny", "fp16")
    found = tool.measure(job, None, None, context)
    assert {item.metric: item.value for item in found.metrics}["compile_graphs"] >= 1
    assert error_of(tool, job, context) < LIMITS["fp16"]


def test_the_first_gpu_is_the_one_that_cuda_sees(models):
    import torch

    assert "CUDA_VISIBLE_DEVICES" not in os.environ or os.environ["CUDA_VISIBLE_DEVICES"] != ""
    assert torch.cuda.get_device_name(0) == first_gpu()
