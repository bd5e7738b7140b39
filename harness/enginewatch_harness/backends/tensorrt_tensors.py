"""Inputs and outputs of an engine: types, sizes, and the way between NumPy and TensorRT's types. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.ort_inputs import InputSpec, index_bounds, make_inputs
from enginewatch_harness.backends.ort_inputs import resolve_shapes as resolve

if TYPE_CHECKING:
    import onnx

_NUMPY: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),  # NumPy has none: its bits
    "INT8": np.dtype(np.int8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""Name of TensorRT's ``DataType`` → NumPy's type of the same bits."""

_KINDS = {
    "FLOAT": "tensor(float)",
    "HALF": "tensor(float16)",
    "BF16": "tensor(float)",
    "INT8": "tensor(int8)",
    "INT32": "tensor(int32)",
    "INT64": "tensor(int64)",
    "UINT8": "tensor(uint8)",
    "BOOL": "tensor(bool)",
}
"""The same → onnxruntime's name, for generated inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of an engine.

    Attributes:
        name: Its name.
        dtype: Name of its ``DataType``.
        shape: Dimensions; -1 where the engine leaves one open.
        is_input: Whether it is an input.
        on_host: Whether its memory is the host's: a tensor that says a shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool
    on_host: bool = False


def numpy_dtype(dtype: str, name: str) -> np.dtype[Any]:
    """Return NumPy's type for a tensor.

    Raises:
        BackendError: ``unsupported_operator``: FP8, INT4 and the like at the edge of a model.
    """
    if dtype not in _NUMPY:
        raise BackendError(
            f"tensor {name!r} has type {dtype}, which cannot be given to or taken from an engine here",
            code="unsupported_operator",
            remedy="keep fp32 inputs and outputs when you export the model",
        )
    return _NUMPY[dtype]


def nbytes(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor of this shape."""
    return math.prod(shape) * numpy_dtype(spec.dtype, spec.name).itemsize


def encode(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return values in the engine's type, contiguous; bfloat16 is rounded to nearest, ties to even."""
    target = numpy_dtype(spec.dtype, spec.name)
    if spec.dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        quiet_nan = (bits >> 16) | 0x40
        return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)
    return np.ascontiguousarray(values, target)


def decode(raw: NDArray[np.uint8], spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an output's bytes as an array; bfloat16 becomes float32, which holds it exactly."""
    values = raw.view(numpy_dtype(spec.dtype, spec.name)).reshape(shape)
    if spec.dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.copy()


def input_shapes(
    specs: list[TensorSpec], shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, tuple[int, ...]]:
    """Return a complete shape for each input.

    Raises:
        BackendError: ``shape_outside_profile``: one is missing or does not fit.
    """
    return resolve([_input_spec(spec) for spec in specs if spec.is_input], dict(shapes), what)


def generated_inputs(
    specs: list[TensorSpec], shapes: Mapping[str, tuple[int, ...]], model: onnx.ModelProto | None, seed: int
) -> dict[str, NDArray[Any]]:
    """Return seeded inputs as other backends make them; ``model`` bounds the integers that index a table."""
    bounds = index_bounds(model) if model is not None else {}
    return make_inputs([_input_spec(spec) for spec in specs if spec.is_input], dict(shapes), bounds, seed)


def _input_spec(spec: TensorSpec) -> InputSpec:
    numpy_dtype(spec.dtype, spec.name)
    return InputSpec(
        name=spec.name, kind=_KINDS[spec.dtype], dims=tuple(None if dim < 0 else dim for dim in spec.shape)
    )
