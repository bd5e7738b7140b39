"""Read the input names and dimensions of an ONNX file."""

from __future__ import annotations

from pathlib import Path

from enginewatch_db.errors import BackendError


def read_inputs(path: Path) -> dict[str, tuple[int | str, ...]]:
    """Return input name → dimensions; an open dimension is its symbol (or ``?``).

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``, with the reader's own reason.
    """
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
    found = {
        value.name: tuple(
            dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or "?"
            for dimension in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
        if value.name not in weights
    }
    if not found:
        raise BackendError(f"{path} declares no input", code="model_corrupt", remedy="export it again")
    return found
