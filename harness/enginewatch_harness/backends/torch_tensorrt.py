"""The backend ``torch_tensorrt``: the model through Torch-TensorRT's ``dynamo`` front end."""

from __future__ import annotations

import dataclasses
import importlib
import time
from pathlib import Path
from typing import Any

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json
from enginewatch_harness.backends import torch_find
from enginewatch_harness.backends.base import Availability, Context, Job
from enginewatch_harness.backends.cuda_device import first_gpu
from enginewatch_harness.backends.torch_eager import Ready, TorchBackend
from enginewatch_harness.backends.torch_options import precisions_on

REMEDY = "pip install torch-tensorrt (its release must fit torch's), on a machine with an NVIDIA GPU"
_IN_TENSORRT, _IN_TORCH = "_run_on_acc", "_run_on_gpu"
"""Beginnings of the names that Torch-TensorRT gives to the parts of a partitioned graph."""


class TorchTensorRtBackend(TorchBackend):
    """Measures a model that Torch-TensorRT has compiled for the case's shapes, in this process."""

    name = "torch_tensorrt"

    def availability(self) -> Availability:
        """Say whether torch, Torch-TensorRT and a GPU are here, without importing them."""
        found = torch_find.torch_availability()
        if not found.available:
            return found
        if torch_find.find_folder("torch_tensorrt") is None:
            return Availability(available=False, why="torch_tensorrt is not installed", remedy=REMEDY)
        gpu = first_gpu() if torch_find.built_for_cuda() else None
        if gpu is None:
            return Availability(available=False, why="torch_tensorrt needs an NVIDIA GPU", remedy=REMEDY)
        return Availability(
            available=True,
            version=torch_find.version_of("torch-tensorrt") or found.version,
            device=gpu,
            precisions=precisions_on("cuda"),
        )

    def device_of(self, options: Json) -> str:
        """Return the GPU's product name: TensorRT has no other device."""
        return first_gpu() or "NVIDIA GPU"

    def uses_gpu(self, options: Json) -> bool:
        """Return true: TensorRT has no other device."""
        return True

    def _compile(self, job: Job, ready: Ready, context: Context) -> None:
        if ready.device != "cuda":
            raise NotAvailableError(
                "Torch-TensorRT needs an NVIDIA GPU", remedy="set torch_device = 'cuda' or leave it out"
            )
        torch, library = ready.torch, _import()
        settings = settings_for(
            setting_names(library),
            precision=job.precision,
            dtype=ready.tensors[0].dtype,
            min_block_size=ready.options.min_block_size,
            optimization_level=ready.options.optimization_level,
            timing_cache=None if context.cache_dir is None else context.cache_dir / "torch_tensorrt.timing",
        )
        began = time.monotonic_ns()
        with torch.inference_mode(False), torch.no_grad():  # export refuses tensors that were made for inference only
            program = torch.export.export(ready.module, tuple(ready.tensors))
            compiled = library.dynamo.compile(program, arg_inputs=ready.tensors, **settings)
        ready.module = compiled
        ready.call()
        torch.cuda.synchronize()
        seconds = (time.monotonic_ns() - began) / 1e9
        engines, left = parts([name for name, _ in compiled.named_children()])
        if not engines:
            raise BackendError(
                f"{job.model_path.name}: Torch-TensorRT gave nothing to TensorRT, torch would run it all",
                code="provider_fallback",
                remedy=f"lower min_block_size (it is {ready.options.min_block_size}), or use the backend torch_compile",
            )
        ready.metrics += [
            MetricValue(metric="compile_time_s", value=seconds),
            MetricValue(metric="compile_graphs", value=float(engines)),
            MetricValue(metric="compile_graph_breaks", value=float(left)),
        ]
        ready.notes += [f"{engines} parts in TensorRT, {left} left to torch"]
        ready.versions = {"torch_tensorrt": str(library.__version__), **_tensorrt_version()}
        shown = {name: value for name, value in settings.items() if isinstance(value, bool | int)}
        ready.effective = {**shown, "cuda_graph": False}


def settings_for(
    known: frozenset[str],
    *,
    precision: str,
    dtype: object,
    min_block_size: int,
    optimization_level: int | None,
    timing_cache: Path | None,
) -> Json:
    """Return the compile settings that this release knows. Pure.

    Torch-TensorRT up to 2.9 chose among ``enabled_precisions``; then came strong typing by ``use_explicit_typing``,
    and 2.14 knows nothing else (``CompilationSettings`` has neither). The module is converted beforehand, so strong
    typing is what is asked for wherever there is a choice.

    Args:
        known: Names of the settings of this release.
        precision: Requested precision.
        dtype: Torch type that the module works in.
        min_block_size: Fewest operators of an engine.
        optimization_level: TensorRT's builder optimisation level; ``None``: its default.
        timing_cache: File that outlives the run; ``None``: the library's own place.
    """
    wanted: Json = {
        "min_block_size": min_block_size,
        "disable_tf32": precision != "tf32",
        "use_explicit_typing": True,
        "immutable_weights": True,
    }
    if "use_explicit_typing" not in known:
        wanted["enabled_precisions"] = {dtype}
    if optimization_level is not None:
        wanted["optimization_level"] = optimization_level
    if timing_cache is not None:
        wanted["timing_cache_path"] = str(timing_cache)
    return {name: value for name, value in wanted.items() if name in known}


def setting_names(library: Any) -> frozenset[str]:  # noqa: ANN401 - torch_tensorrt is given
    """Return the names of the compile settings of the installed release."""
    return frozenset(item.name for item in dataclasses.fields(library.dynamo.CompilationSettings))


def parts(children: list[str]) -> tuple[int, int]:
    """Return how many parts of a compiled graph run in TensorRT, and how many are left to torch."""
    return (
        sum(name.startswith(_IN_TENSORRT) for name in children),
        sum(name.startswith(_IN_TORCH) for name in children),
    )


def _import() -> Any:  # noqa: ANN401 - it is not installed where types are checked
    try:
        return importlib.import_module("torch_tensorrt")
    # The boundary to a library whose binary parts may not fit torch's: it raises OSError, ImportError or RuntimeError.
    except Exception as error:
        raise NotAvailableError(f"torch_tensorrt cannot be imported: {error}", remedy=REMEDY) from error


def _tensorrt_version() -> dict[str, str]:
    found = torch_find.version_of("tensorrt")
    return {"tensorrt": found} if found else {}
