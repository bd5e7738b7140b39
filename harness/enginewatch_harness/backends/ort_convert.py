"""Conversion of an fp32 ONNX model to another precision, before ONNX Runtime optimises it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.ort_bf16 import convert_to_bf16
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.graph_precision.calibration import Calibration, calibration_inputs
from enginewatch_harness.graph_precision.load import load_model as load_model
from enginewatch_harness.graph_precision.load import save_model
from enginewatch_harness.graph_precision.ort_tools import quantize_dynamic_int8, quantize_static_int8, to_fp16


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What to convert.

    Attributes:
        source: The fp32 model.
        precision: Requested precision.
        shapes: Input shapes of the case.
        options: Checked options.
        work_dir: Scratch folder.
        for_tensorrt: Static int8 as TensorRT reads it: symmetric, biases in fp32, weights as QDQ pairs.
    """

    source: Path
    precision: str
    shapes: dict[str, tuple[int, ...]]
    options: OrtOptions
    work_dir: Path
    for_tensorrt: bool = False


def convert(request: Conversion) -> Path:
    """Return a model file in the requested precision; the source itself for fp32.

    The caller owns what is written into ``work_dir``.

    Raises:
        BackendError: ``model_missing``, ``model_corrupt``, ``unsupported_precision`` or what the calibration met.
    """
    converter = _CONVERTERS.get(request.precision)
    if converter is None:
        raise BackendError(
            f"onnxruntime cannot build precision {request.precision!r}; it knows {', '.join(_CONVERTERS)}",
            code="unsupported_precision",
            remedy="take this precision out of the plan for the backend onnxruntime",
        )
    return converter(request)


def calibration_of(options: OrtOptions) -> Calibration:
    """Return what static int8 is calibrated with."""
    return Calibration(
        samples=options.calibration_samples,
        seed=options.calibration_seed,
        data=None if options.calibration_data is None else Path(options.calibration_data),
        per_channel=options.per_channel,
        operators=options.quantize_ops,
    )


def _keep(request: Conversion) -> Path:
    return request.source


def _to_fp16(request: Conversion) -> Path:
    return _save(to_fp16(load_model(request.source)), request, "fp16")


def _to_bf16(request: Conversion) -> Path:
    return _save(convert_to_bf16(load_model(request.source)), request, "bf16")


def _to_int8(request: Conversion) -> Path:
    target = request.work_dir / "converted-int8.onnx"
    calibration = calibration_of(request.options)
    quantize_static_int8(
        request.source,
        target,
        partial(calibration_inputs, request.source, request.shapes, calibration),
        operators=calibration.operators,
        per_channel=calibration.per_channel,
        for_tensorrt=request.for_tensorrt,
        work_dir=request.work_dir,
    )
    return target


def _to_int8_dynamic(request: Conversion) -> Path:
    target = request.work_dir / "converted-int8-dynamic.onnx"
    quantize_dynamic_int8(request.source, target, operators=request.options.quantize_ops, work_dir=request.work_dir)
    return target


_CONVERTERS: dict[str, Callable[[Conversion], Path]] = {
    "fp32": _keep,
    "fp16": _to_fp16,
    "bf16": _to_bf16,
    "int8": _to_int8,
    "int8_dynamic": _to_int8_dynamic,
}


def _save(model: onnx.ModelProto, request: Conversion, name: str) -> Path:
    target = request.work_dir / f"converted-{name}.onnx"
    save_model(model, target)
    return target
