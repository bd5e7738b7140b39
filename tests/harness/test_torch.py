"""What the Torch backends do without torch: options, availability, failures, traces, Torch-TensorRT's settings."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import FAILURE_CODES, BackendError, MeasurementError, PlanError
from enginewatch_harness.backends import torch_find, torch_tensorrt
from enginewatch_harness.backends.base import ChoosesDevice, Infers, Profiles, UsesGpu
from enginewatch_harness.backends.torch_compile import TorchCompileBackend
from enginewatch_harness.backends.torch_eager import Ready, TorchBackend
from enginewatch_harness.backends.torch_errors import classify
from enginewatch_harness.backends.torch_options import check_precision, parse_options
from enginewatch_harness.backends.torch_tensorrt import TorchTensorRtBackend, parts, settings_for
from enginewatch_harness.backends.torch_trace import tables_of

BACKENDS = (TorchBackend, TorchCompileBackend, TorchTensorRtBackend)


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_backends_keep_the_protocols(kind):
    tool = kind()
    for protocol in (ChoosesDevice, UsesGpu, Profiles, Infers):
        assert isinstance(tool, protocol)


@pytest.mark.parametrize("kind", BACKENDS)
def test_without_torch_the_remedy_is_told(kind, monkeypatch):
    monkeypatch.setattr(torch_find, "find_folder", lambda module: None)
    found = kind().availability()
    assert not found.available
    assert (found.why, found.remedy) == ("torch is not installed", "pip install 'enginewatch[torch]'")


def test_asking_for_torch_does_not_import_it():
    code = (
        "import sys\n"
        "from enginewatch_harness.backends.torch_eager import TorchBackend\n"
        "from enginewatch_harness.backends.torch_compile import TorchCompileBackend\n"
        "from enginewatch_harness.backends.torch_tensorrt import TorchTensorRtBackend\n"
        "for kind in (TorchBackend, TorchCompileBackend, TorchTensorRtBackend): kind().availability()\n"
        "sys.exit('torch' in sys.modules or 'torch_tensorrt' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("cuda", "expected"), [("'13.0'", True), ("None", False)])
def test_a_cuda_build_is_read_from_its_files(tmp_path, monkeypatch, cuda, expected):
    (tmp_path / "version.py").write_text(f"__version__ = '2.11.0'\ncuda: Optional[str] = {cuda}\nhip = None\n")
    monkeypatch.setattr(torch_find, "find_folder", lambda module: tmp_path)
    torch_find.built_for_cuda.cache_clear()
    try:
        assert torch_find.built_for_cuda() is expected
        monkeypatch.setattr(torch_find, "first_gpu", lambda: "NVIDIA H200")
        assert torch_find.kind_of_device("auto") == ("cuda" if expected else "cpu")
        assert torch_find.kind_of_device("cpu") == "cpu"
    finally:
        torch_find.built_for_cuda.cache_clear()


def test_torch_tensorrt_needs_its_package_and_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch_find, "find_folder", lambda module: tmp_path if module == "torch" else None)
    assert TorchTensorRtBackend().availability().why == "torch_tensorrt is not installed"
    monkeypatch.setattr(torch_find, "find_folder", lambda module: tmp_path)
    monkeypatch.setattr(torch_find, "built_for_cuda", lambda: True)
    monkeypatch.setattr(torch_tensorrt, "first_gpu", lambda: None)
    assert TorchTensorRtBackend().availability().why == "torch_tensorrt needs an NVIDIA GPU"
    monkeypatch.setattr(torch_tensorrt, "first_gpu", lambda: "NVIDIA H200")
    assert TorchTensorRtBackend().availability().device == "NVIDIA H200"


def test_options_are_checked():
    assert parse_options({"compile_mode": "reduce-overhead", "graph_optimization": "all"}).threads == 1
    for bad in ({"compile_mode": "fast"}, {"torch_device": "gpu"}, {"autocast": 1}, {"threads": 0}):
        with pytest.raises(PlanError):
            parse_options(bad)
    with pytest.raises(PlanError, match="did you mean 'compile_mode'"):
        parse_options({"compil_mode": "default"}, "torch_compile")


@pytest.mark.parametrize(
    ("precision", "device", "autocast", "fine"),
    [
        ("fp32", "cpu", False, True),
        ("tf32", "cuda", False, True),
        ("tf32", "cpu", False, False),
        ("int8", "cuda", False, False),
        ("bf16", "cpu", True, True),
        ("fp32", "cuda", True, False),
    ],
)
def test_precisions_that_torch_cannot_give_are_refused(precision, device, autocast, fine):
    if fine:
        check_precision(precision, device, autocast=autocast)
        return
    with pytest.raises(BackendError) as caught:
        check_precision(precision, device, autocast=autocast)
    assert caught.value.code == "unsupported_precision"


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class InductorError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'"), "unsupported_precision"),
        (InductorError("InvalidCxxCompiler: No working C++ compiler found"), "build_failed"),
        (InductorError("LoweringException: AssertionError"), "build_failed"),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), "shape_outside_profile"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "crashed"),
        (KeyError("weight"), "crashed"),
    ],
)
def test_failures_of_torch_have_a_code(error, code):
    found = classify(error, model=Path("m.onnx"), precision="fp16")
    assert found.code == code
    assert "\n" not in found.message


@settings(max_examples=50)
@given(st.text(max_size=600))
def test_any_words_of_torch_become_one_coded_line(words):
    found = classify(RuntimeError(words), model=Path("m.onnx"), precision="fp16")
    assert found.code in FAILURE_CODES
    assert len(found.message.splitlines()) == 1
    assert len(found.message) < 450


NEW = frozenset({"min_block_size", "disable_tf32", "immutable_weights", "optimization_level", "timing_cache_path"})
MIDDLE = NEW | {"enabled_precisions", "use_explicit_typing"}
OLD = MIDDLE - {"use_explicit_typing"}


def trt_settings(known, precision="fp16", level=None, cache=None):
    return settings_for(
        known, precision=precision, dtype="half", min_block_size=5, optimization_level=level, timing_cache=cache
    )


def test_torch_tensorrt_is_asked_in_the_words_of_its_release():
    """2.14 is strongly typed and knows neither setting (its ``CompilationSettings``); 2.5 to 2.13 can be made so."""
    assert trt_settings(NEW) == {"min_block_size": 5, "disable_tf32": True, "immutable_weights": True}
    assert trt_settings(MIDDLE)["use_explicit_typing"] is True
    assert "enabled_precisions" not in trt_settings(MIDDLE)
    assert trt_settings(OLD)["enabled_precisions"] == {"half"}
    assert trt_settings(NEW, precision="tf32", level=4)["optimization_level"] == 4
    assert trt_settings(NEW, precision="tf32")["disable_tf32"] is False
    assert trt_settings(NEW, cache=Path("t"))["timing_cache_path"] == "t"


def test_parts_in_tensorrt_and_in_torch_are_counted():
    assert parts(["_run_on_acc_0", "_run_on_gpu_1", "_run_on_acc_2", "other"]) == (2, 1)
    assert parts([]) == (0, 0)


def event(cat, name, ts, dur, **args):
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, "pid": 1, "args": args}


CPU = [
    event(
        "cpu_op",
        "aten::linear",
        0.0,
        10.0,
        **{"External id": 1, "Input Dims": [[2, 3], [4, 3], []], "Input type": ["float", "float", ""]},
    ),
    event("cpu_op", "aten::addmm", 2.0, 6.0, **{"External id": 2, "Input Dims": [[2, 3]], "Input type": ["float"]}),
    event("cpu_op", "aten::relu", 20.0, 5.0, **{"External id": 3}),
]
GPU = [
    event("kernel", "gemm", 30.0, 7.0, **{"External id": 2, "grid": [4, 1, 1], "block": [128, 1, 1]}),
    event("kernel", "gemm", 60.0, 9.0, **{"External id": 2, "grid": [4, 1, 1], "block": [128, 1, 1]}),
    event("kernel", "triton_poi_fused_relu_0", 70.0, 2.0, grid=[1, 1, 1]),
]


def rows(events, table="layers"):
    return tables_of(json.dumps({"traceEvents": events}))[table].to_pylist()


def test_on_the_cpu_an_operator_has_its_own_time_only():
    found = {row["layer_type"]: row for row in rows(CPU)}
    assert {name: row["mean_ns"] for name, row in found.items()} == {
        "aten::linear": 4000,
        "aten::addmm": 6000,
        "aten::relu": 5000,
    }
    assert found["aten::linear"]["name"] == "aten::linear [2x3, 4x3]"
    assert found["aten::linear"]["dtype"] == "fp32"
    assert sum(row["time_pct"] for row in found.values()) == pytest.approx(100)


def test_on_a_gpu_an_operator_has_the_time_of_its_kernels():
    found = {row["layer_type"]: row for row in rows([*CPU, *GPU])}
    assert set(found) == {"aten::addmm", "triton_poi_fused_relu_0"}
    assert found["aten::addmm"]["mean_ns"] == 16000  # one call launched both
    kernels = {row["name"]: row for row in rows([*CPU, *GPU], "kernels")}
    gemm = kernels["gemm"]
    assert (gemm["calls"], gemm["total_ns"], gemm["min_ns"], gemm["max_ns"]) == (2, 16000, 7000, 9000)
    assert (gemm["grid"], gemm["block"], gemm["layer"], gemm["source"]) == ("4x1x1", "128x1x1", "aten::addmm", "torch")
    assert kernels["triton_poi_fused_relu_0"]["layer"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"traceEvents": []}', '{"traceEvents": null}'])
def test_a_trace_without_operators_is_told(text):
    with pytest.raises(MeasurementError) as caught:
        tables_of(text)
    assert caught.value.code == "no_samples"


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=6)


@settings(max_examples=60)
@given(spans)
def test_own_times_sum_to_the_time_that_something_ran(spans):
    """Nested or one after the other, every microsecond belongs to one operator."""
    events, at = [], 0.0
    for gap, length in spans:
        at += gap
        events.append(event("cpu_op", f"outer{len(events)}", at, float(length)))
        events.append(event("cpu_op", f"inner{len(events)}", at, float(length) / 2))
        at += length
    found = rows(events)
    assert sum(row["mean_ns"] * row["calls"] for row in found) == pytest.approx(1000 * sum(n for _, n in spans))


def test_torchscript_is_not_compiled():
    ready = SimpleNamespace(torch=None, options=parse_options({}), model=SimpleNamespace(source="torchscript"))
    job = SimpleNamespace(model_path=Path("m.pt"))
    with pytest.raises(BackendError, match="cannot see into") as caught:
        TorchCompileBackend()._compile(job, ready, None)
    assert caught.value.code == "unsupported_operator"


@dataclasses.dataclass
class Settings214:
    """The fields of Torch-TensorRT 2.14's ``CompilationSettings`` that matter here."""

    min_block_size: int = 5
    disable_tf32: bool = False
    immutable_weights: bool = True
    optimization_level: int | None = None
    timing_cache_path: str = ""


class Compiled:
    def __init__(self, children):
        self.children = children

    def named_children(self):
        return [(name, None) for name in self.children]

    def __call__(self, *tensors):
        return tensors


def compile_with_fake(monkeypatch, children):
    asked = {}

    def build(program, *, arg_inputs, **settings):
        asked.update(settings, program=program, inputs=arg_inputs)
        return Compiled(children)

    library = SimpleNamespace(
        dynamo=SimpleNamespace(CompilationSettings=Settings214, compile=build), __version__="2.14.0"
    )
    monkeypatch.setattr(torch_tensorrt, "_import", lambda: library)
    torch = SimpleNamespace(
        inference_mode=lambda mode: contextlib.nullcontext(),
        no_grad=contextlib.nullcontext,
        export=SimpleNamespace(export=lambda module, inputs: (module, inputs)),
        cuda=SimpleNamespace(synchronize=lambda: None),
    )
    ready = Ready(
        torch=torch,
        device="cuda",
        options=parse_options({"min_block_size": 2}),
        model=None,
        module="module",
        tensors=[SimpleNamespace(dtype="half")],
    )
    job = SimpleNamespace(model_path=Path("m.onnx"), precision="fp16")
    TorchTensorRtBackend()._compile(job, ready, SimpleNamespace(cache_dir=Path("kept")))
    return ready, asked


def test_what_torch_tensorrt_made_is_told(monkeypatch):
    ready, asked = compile_with_fake(monkeypatch, ["_run_on_acc_0", "_run_on_gpu_1", "_run_on_acc_2"])
    assert asked["program"] == ("module", tuple(ready.tensors))
    assert asked["min_block_size"] == 2
    assert asked["timing_cache_path"] == str(Path("kept/torch_tensorrt.timing"))
    assert {item.metric: item.value for item in ready.metrics}["compile_graphs"] == 2
    assert ready.notes == ["2 parts in TensorRT, 1 left to torch"]
    assert ready.versions["torch_tensorrt"] == "2.14.0"
    assert ready.effective["min_block_size"] == 2
    assert ready.call() == tuple(ready.tensors)


def test_a_model_that_tensorrt_took_nothing_of_fails(monkeypatch):
    with pytest.raises(BackendError, match="gave nothing to TensorRT") as caught:
        compile_with_fake(monkeypatch, ["_run_on_gpu_0"])
    assert caught.value.code == "provider_fallback"
