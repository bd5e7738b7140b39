"""Raise the operator set of a model, where a number format needs a newer one. Pure."""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from enginewatch_db.errors import BackendError

NEEDED = {"int8": 19, "fp8": 19, "int4": 21, "bf16": 22, "fp4": 23}
"""Precision → first operator set whose operators take it (onnx, docs/Changelog.md): QuantizeLinear of fp16 and of FP8
from 19, INT4 and blocks 21, Conv and pooling of bfloat16 22, FLOAT4E2M1 23."""

INT8_ALONE = 13
"""First operator set with scales per channel; enough where the rest stays fp32. TensorRT 8.6 reads up to 17: of 18 on,
it takes ReduceMean for one without axes and then refuses the Gemm behind it (seen on an H200)."""


def needed(precision: str, rest: str = "fp16") -> int:
    """Return the operator set that a precision needs, with the rest of the graph in ``rest``."""
    return INT8_ALONE if (precision, rest) == ("int8", "fp32") else NEEDED[precision]


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operator set that a model uses."""
    return max((int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")), default=1)


def raise_opset(model: onnx.ModelProto, precision: str, rest: str = "fp16") -> onnx.ModelProto:
    """Return the model with at least the operator set that ``precision`` needs; itself where it has it.

    Args:
        model: The model.
        precision: Format to put into it.
        rest: Format of what is not quantised.

    Raises:
        BackendError: ``unsupported_precision``: the model cannot be converted.
    """
    wanted = needed(precision, rest)
    if opset_of(model) >= wanted:
        return model
    try:
        raised: onnx.ModelProto = version_converter.convert_version(model, wanted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise BackendError(
            f"{precision} needs operator set {wanted}, and the model (operator set {opset_of(model)}) cannot be "
            f"raised to it: {' '.join(str(error).split())[:200]}",
            code="unsupported_precision",
            remedy=f"export the model with opset_version={wanted}",
        ) from error
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import))
    return raised
