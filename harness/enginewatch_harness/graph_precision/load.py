"""ONNX files with their external data: read, hashed, written whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from enginewatch_db.errors import BackendError
from enginewatch_harness.engine_cache import file_sha256

_PROTOBUF_LIMIT_BYTES = 2**31 - 1
"""A protobuf message ends here (protobuf.dev, "Proto Limits"): larger weights lie beside the graph."""

_INLINE_BELOW_BYTES = 1024
"""Weights smaller than this stay in the graph file: TensorRT folds shapes from them while it parses."""

WEIGHTS_SUFFIX = ".data"


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    return _load(path, weights=True)


def _load(path: Path, *, weights: bool) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=weights)
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


def model_sha256(path: Path) -> str:
    """Return the hash of a model: of its file where that holds all, else of the file and of the weights beside it.

    Raises:
        BackendError: ``model_missing`` or ``model_corrupt``.
    """
    model = _load(path, weights=False)
    beside = sorted({name for tensor in _tensors(model) for name in _locations(tensor)})
    digest = file_sha256(path)
    if not beside:
        return digest
    try:
        parts = [digest, *(f"{name}:{file_sha256(path.parent / name)}" for name in beside)]
    except FileNotFoundError as error:
        raise BackendError(
            f"{path} keeps weights in {error.filename}, which does not exist",
            code="model_missing",
            remedy="put the weights beside the model file",
        ) from error
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def embed_weights(path: Path, folder: Path) -> None:
    """Bring into a file the weights that it names in another file's folder.

    ONNX Runtime writes an optimised graph with the names of its source's weight files, wherever it writes it.

    Args:
        path: The written file; only changed where it names other files.
        folder: Folder of the source.

    Raises:
        BackendError: ``model_corrupt``.
    """
    model = _load(path, weights=False)
    if any(_locations(tensor) for tensor in _tensors(model)):
        onnx.load_external_data_for_model(model, str(folder))
        save_model(model, path)


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model; weights go into ``<path>.data`` where one file cannot hold them."""
    if model.ByteSize() <= _PROTOBUF_LIMIT_BYTES:
        onnx.save(model, str(path))
        return
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location=f"{path.name}{WEIGHTS_SUFFIX}",
        size_threshold=_INLINE_BELOW_BYTES,
    )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    yield attribute.t
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    graphs.append(attribute.g)


def _locations(tensor: onnx.TensorProto) -> list[str]:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]
