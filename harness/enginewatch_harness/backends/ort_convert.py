"""Conversion of an fp32 ONNX model to another precision, before ONNX Runtime optimises it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.ort_bf16 import convert_to_bf16
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_inputs import (
    calibration_shapes,
    index_bounds,
    input_specs,
    make_inputs,
    resolve_shapes,
)
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session

STATIC_INT8_OPS = ("Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool")
"""Where the arithmetic is, and the pooling between: normalisations and activations keep fp32, for accuracy."""

DYNAMIC_INT8_OPS = ("MatMul", "Gemm")
"""Not Conv: ConvInteger is four times slower than the fp32 Conv on CPUs (measured with onnxruntime 1.31, AVX-512)."""

_TENSORRT_INT8 = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
}


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


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise BackendError(
            f"{error.filename or path} does not exist",
            code="model_missing",
            remedy="check the model's path in the plan",
        ) from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise BackendError(
            f"{path} cannot be read as an ONNX model: {error}", code="model_corrupt", remedy="export the model again"
        ) from error
    if not model.graph.node:
        raise BackendError(f"{path} has no graph", code="model_corrupt", remedy="export the model again")
    return model


def _keep(request: Conversion) -> Path:
    return request.source


def _to_fp16(request: Conversion) -> Path:
    model = load_model(request.source)
    with _tools_on_path():
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted = convert_float_to_float16(model, keep_io_types=True)
    return _save(converted, request, "fp16")


def _to_bf16(request: Conversion) -> Path:
    return _save(convert_to_bf16(load_model(request.source)), request, "bf16")


def _to_int8(request: Conversion) -> Path:
    options = request.options
    folded = _fold(request)
    target = request.work_dir / "converted-int8.onnx"
    with _tools_on_path(), _quiet_root_logger(), translated(model=request.source, precision=request.precision):
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        quantize_static(
            str(folded),
            str(target),
            _seeded_reader(request),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(options.quantize_ops or STATIC_INT8_OPS),
            per_channel=options.per_channel,
            # Unsigned activations on CPUs: x86 has a fused kernel for u8 x s8, and none for s8 x s8.
            activation_type=QuantType.QInt8 if request.for_tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=_TENSORRT_INT8 if request.for_tensorrt else None,
        )
    return target


def _to_int8_dynamic(request: Conversion) -> Path:
    folded = _fold(request)
    target = request.work_dir / "converted-int8-dynamic.onnx"
    operators = list(request.options.quantize_ops or DYNAMIC_INT8_OPS)
    with _tools_on_path(), _quiet_root_logger(), translated(model=request.source, precision=request.precision):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(str(folded), str(target), op_types_to_quantize=operators, weight_type=QuantType.QInt8)
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
    onnx.save(model, str(target))
    return target


def _fold(request: Conversion) -> Path:
    """Fold constants and batch norms first: quantised one by one, a batch norm keeps its convolution in fp32."""
    target = request.work_dir / "folded.onnx"
    open_session(request.source, request.options, precision="fp32", optimization="basic", save_to=target)
    model = load_model(target)
    # The marks that onnxruntime's own pre-processing leaves: the quantiser then does not ask for it again.
    onnx.helper.set_model_props(
        model, {"onnx.quant.pre_process": "onnxruntime.quant", "onnx.infer": "onnxruntime.quant"}
    )
    onnx.save(model, str(target))
    return target


def _seeded_reader(request: Conversion) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    from onnxruntime.quantization import CalibrationDataReader

    samples = _calibration_inputs(request)

    class SeededReader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the quantiser one input after the other."""

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            """Return the next input; ``None`` at the end."""
            return next(samples, None)

    return SeededReader()


def _calibration_inputs(request: Conversion) -> Iterator[dict[str, NDArray[Any]]]:
    options = request.options
    session = open_session(request.source, options, precision="fp32", optimization="disable")
    specs = input_specs(session)
    shapes = calibration_shapes(specs, resolve_shapes(specs, request.shapes, request.source.name))
    bounds = index_bounds(load_model(request.source))
    first = options.calibration_seed
    for seed in range(first, first + options.calibration_samples):
        yield make_inputs(specs, shapes, bounds, seed)


@contextmanager
def _tools_on_path() -> Iterator[None]:
    """Let onnxruntime's tools import each other as top-level modules, and take their folder off the path again."""
    import onnxruntime

    before = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Hold back onnxruntime's quantiser, which speaks through the root logger and installs a handler there."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
