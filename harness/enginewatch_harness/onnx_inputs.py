"""Read the names, dimensions and types of an ONNX file's inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.ort_inputs import InputSpec

if TYPE_CHECKING:
    import onnx


def read_inputs(path: Path) -> dict[str, tuple[int | str, ...]]:
    """Return input name → dimensions; an open dimension is its symbol (or ``?``).

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``, with the reader's own reason.
    """
    found = {
        value.name: tuple(
            dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"
            for dimension in value.type.tensor_type.shape.dim
        )
        for value in _inputs(path)
    }
    if not found:
        raise BackendError(f"{path} declares no input", code="model_corrupt", remedy="export it again")
    return found


def input_dtypes(path: Path) -> dict[str, str]:
    """Return input → name of its NumPy type, as the ONNX file declares it.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    import onnx

    return {
        value.name: str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in _inputs(path)
    }


def declared_inputs(path: Path) -> list[InputSpec]:
    """Return the inputs as the ONNX file declares them, under onnxruntime's names of types.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    import onnx

    return [
        InputSpec(
            name=value.name,
            kind=f"tensor({onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()})",
            dims=tuple(
                dimension.dim_value if dimension.HasField("dim_value") else None
                for dimension in value.type.tensor_type.shape.dim
            ),
        )
        for value in _inputs(path)
    ]


def _inputs(path: Path) -> Iterator[onnx.ValueInfoProto]:
    """Yield the graph's inputs that are no weights."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError as error:
        raise BackendError(f"there is no model file {path}", code="model_missing") from error
    except (DecodeError, OSError, ValueError) as error:
        raise BackendError(
            f"{path} is not a readable ONNX file: {str(error).splitlines()[0]}",
            code="model_corrupt",
            remedy="export it again, and check it with `python -m onnx.checker`",
        ) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    yield from (value for value in model.graph.input if value.name not in weights)
