"""ONNX Runtime's own converters: fp16, static int8 as QDQ, dynamic int8."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.graph_precision.load import WEIGHTS_SUFFIX, embed_weights, load_model, save_model
from enginewatch_harness.graph_precision.order import sort_nodes
from enginewatch_harness.input_data import Arrays

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
"""TensorRT reads symmetric signed QDQ pairs, on weights too, and biases in the type of the sum."""

InputMaker = Callable[[], Iterator[Arrays]]
"""Begins the inputs of a calibration anew."""


def to_fp16(model: onnx.ModelProto, keep: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Return the model in fp16; inputs and outputs stay fp32, and so do the nodes named in ``keep``."""
    with _tools_on_path():
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=list(keep))
    sort_nodes(converted.graph)  # the converter appends its casts at the end
    return converted


def quantize_static_int8(
    source: Path,
    target: Path,
    inputs: InputMaker,
    *,
    operators: tuple[str, ...],
    per_channel: bool,
    for_tensorrt: bool,
    work_dir: Path,
    precision: str = "int8",
) -> None:
    """Write ``source`` with calibrated QDQ pairs.

    Args:
        source: The fp32 model.
        target: File to write.
        inputs: Begins what the calibration sees.
        operators: Operators to quantise; empty: ``STATIC_INT8_OPS``.
        per_channel: One scale for each output channel of a weight.
        for_tensorrt: As TensorRT reads it: symmetric, biases in fp32, weights as QDQ pairs.
        work_dir: Scratch folder.
        precision: For messages.

    Raises:
        BackendError: The model cannot be read or run.
    """
    folded = fold(source, work_dir)
    with _tools_on_path(), _quiet_root_logger(), translated(model=source, precision=precision):
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        quantize_static(
            str(folded),
            str(target),
            calibration_reader(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators or STATIC_INT8_OPS),
            per_channel=per_channel,
            # Unsigned activations on CPUs: x86 has a fused kernel for u8 x s8, and none for s8 x s8.
            activation_type=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=_TENSORRT_INT8 if for_tensorrt else None,
            use_external_data_format=_beside(folded),
        )


def quantize_dynamic_int8(source: Path, target: Path, *, operators: tuple[str, ...], work_dir: Path) -> None:
    """Write ``source`` with int8 weights and activations that are quantised while it runs.

    Raises:
        BackendError: The model cannot be read.
    """
    folded = fold(source, work_dir)
    with _tools_on_path(), _quiet_root_logger(), translated(model=source, precision="int8_dynamic"):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            str(folded),
            str(target),
            op_types_to_quantize=list(operators or DYNAMIC_INT8_OPS),
            weight_type=QuantType.QInt8,
            use_external_data_format=_beside(folded),
        )


def fold(source: Path, work_dir: Path) -> Path:
    """Fold constants and batch norms first: quantised one by one, a batch norm keeps its convolution in fp32.

    Raises:
        BackendError: The model cannot be read.
    """
    target = work_dir / "folded.onnx"
    open_session(source, OrtOptions(), precision="fp32", optimization="basic", save_to=target)
    embed_weights(target, source.parent)
    model = load_model(target)
    # The marks that onnxruntime's own pre-processing leaves: the quantiser then does not ask for it again.
    onnx.helper.set_model_props(
        model, {"onnx.quant.pre_process": "onnxruntime.quant", "onnx.infer": "onnxruntime.quant"}
    )
    save_model(model, target)
    return target


def _beside(path: Path) -> bool:
    """Return whether a model that was saved here keeps its weights beside it."""
    return path.with_name(f"{path.name}{WEIGHTS_SUFFIX}").is_file()


def calibration_reader(make: InputMaker) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Return onnxruntime's reader over inputs, with the two more methods that ModelOpt asks for."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the quantiser one input after the other."""

        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Arrays | None:
            """Return the next input; ``None`` at the end."""
            return next(self._inputs, None)

        def get_first(self) -> Arrays:
            """Return the first input, again."""
            return next(make())

        def rewind(self) -> None:
            """Begin again."""
            self._inputs = make()

    return Reader()


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
