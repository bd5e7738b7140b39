"""NVIDIA ModelOpt, where it is installed: AutoCast for fp16 and bf16, its quantiser for int8, fp8 and int4.

ModelOpt replaces parts of onnxruntime's quantiser for the rest of the process. A build has a process of its own
(``enginewatch_harness.worker``), so that nothing else meets them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_harness.graph_precision.ort_tools import InputMaker, calibration_reader

CASTS = ("fp16", "bf16")
REMEDY = "pip install 'enginewatch[modelopt]', or set graph_tool = \"builtin\" in the plan"

_PARTS = ("modelopt", "torch", "onnx_graphsurgeon", "onnxscript", "onnxslim", "lief", "polygraphy")
"""What ``modelopt.onnx`` imports before it does anything."""


def modelopt_version() -> str | None:
    """Return the version of ModelOpt; ``None`` where it, or what its ONNX part needs, is absent. Imports nothing."""
    if any(importlib.util.find_spec(name) is None for name in _PARTS):
        return None
    try:
        return version("nvidia-modelopt")
    except PackageNotFoundError:
        return None


def autocast(source: Path, precision: str, inputs: InputMaker, work_dir: Path) -> onnx.ModelProto:
    """Return the model in mixed precision: what overflows for ``inputs`` stays fp32, as do inputs and outputs.

    Raises:
        BackendError: ModelOpt cannot be imported or cannot convert the model.
    """
    seen = work_dir / "autocast-inputs"
    seen.mkdir()
    for index, arrays in enumerate(inputs()):
        np.savez(seen / f"{index:06d}.npz", allow_pickle=False, **arrays)
    with _translated(source, precision):
        from modelopt.onnx.autocast import convert_to_mixed_precision

        made: onnx.ModelProto = convert_to_mixed_precision(
            str(source), low_precision_type=precision, keep_io_types=True, calibration_data=str(seen)
        )
    return made


def quantize(
    source: Path,
    target: Path,
    precision: str,
    inputs: InputMaker,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    operators: tuple[str, ...],
    block_size: int,
    rest: str,
) -> None:
    """Write the model quantised by ModelOpt; scales from the largest magnitudes, so that they are repeatable.

    Raises:
        BackendError: ModelOpt cannot be imported or cannot convert the model.
    """
    weight_only: dict[str, Any] = {"block_size": block_size, "calibration_method": "rtn_dq"}
    calibrated: dict[str, Any] = {
        "calibration_method": "max",
        "calibration_data_reader": calibration_reader(inputs),
        "calibration_shapes": ",".join(f"{name}:{'x'.join(map(str, dims))}" for name, dims in shapes.items()),
        "op_types_to_quantize": list(operators) or None,
    }
    with _translated(source, precision):
        from modelopt.onnx.quantization import quantize as quantize_onnx

        quantize_onnx(
            str(source),
            quantize_mode=precision,
            calibration_eps=["cpu"],
            high_precision_dtype=rest,
            output_path=str(target),
            log_level="ERROR",
            **(weight_only if precision == "int4" else calibrated),
        )


@contextmanager
def _translated(source: Path, precision: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise NotAvailableError(f"ModelOpt does not import: {error}", remedy=REMEDY) from error
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(
            f"ModelOpt cannot put {precision} into {source.name}: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}",
            code="build_failed",
            remedy='set graph_tool = "builtin" in the plan',
        ) from error
