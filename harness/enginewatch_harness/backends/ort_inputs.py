"""Seeded inputs of a model and the check of its shapes. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError

if TYPE_CHECKING:
    import onnx

_FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_INTEGERS: dict[str, type[np.integer[Any]]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input of a model: its name, onnxruntime's type name, and dimensions (``None`` where symbolic)."""

    name: str
    kind: str
    dims: tuple[int | None, ...]


def numpy_type(spec: InputSpec) -> np.dtype[Any] | None:
    """Return NumPy's type for an input; ``None`` where it has none (strings, bfloat16)."""
    if spec.kind == "tensor(bool)":
        return np.dtype(np.bool_)
    found = _FLOATS.get(spec.kind) or _INTEGERS.get(spec.kind)
    return None if found is None else np.dtype(found)


def input_specs(session: Any) -> list[InputSpec]:  # noqa: ANN401 - onnxruntime ships no types
    """Return the inputs of a session."""
    return [
        InputSpec(
            name=item.name,
            kind=item.type,
            dims=tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in item.shape),
        )
        for item in session.get_inputs()
    ]


def resolve_shapes(
    specs: list[InputSpec], shapes: dict[str, tuple[int, ...]], model: str
) -> dict[str, tuple[int, ...]]:
    """Return a complete shape for every input.

    Raises:
        BackendError: ``shape_outside_profile``: a name that the model lacks, another rank, a fixed dimension with
            another size, or a dynamic dimension without a size. A dynamic dimension is never guessed.
    """
    names = [spec.name for spec in specs]
    for name in shapes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            raise _shape_error(f"{model} has no input {name!r}", f"its inputs: {', '.join(names)}; nearest: {near}")
    return {spec.name: _resolve(spec, shapes.get(spec.name), model) for spec in specs}


def _resolve(spec: InputSpec, shape: tuple[int, ...] | None, model: str) -> tuple[int, ...]:
    if shape is None:
        fixed = tuple(dim for dim in spec.dims if dim is not None)
        if len(fixed) == len(spec.dims):
            return fixed
        raise _shape_error(f"{model}: no shape for input {spec.name!r} of dimensions {_text(spec)}", "give shapes")
    fits = len(shape) == len(spec.dims) and all(
        given > 0 and wanted in (None, given) for given, wanted in zip(shape, spec.dims, strict=True)
    )
    if not fits:
        raise _shape_error(
            f"{model}: input {spec.name!r} cannot be {'x'.join(map(str, shape))}", f"it takes {_text(spec)}"
        )
    return shape


def _text(spec: InputSpec) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in spec.dims)


def _shape_error(message: str, hint: str) -> BackendError:
    return BackendError(message, code="shape_outside_profile", remedy=f"correct shapes in the plan: {hint}")


def calibration_shapes(specs: list[InputSpec], shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return ``shapes`` with a dynamic batch set to 1, so that one calibrated engine serves every batch size."""
    dynamic = {spec.name for spec in specs if spec.dims and spec.dims[0] is None}
    return {name: (1, *shape[1:]) if name in dynamic else shape for name, shape in shapes.items()}


def make_inputs(
    specs: list[InputSpec], shapes: dict[str, tuple[int, ...]], bounds: dict[str, int], seed: int
) -> dict[str, NDArray[Any]]:
    """Return seeded inputs: normal floats, indices within their table, ones for other integers, true for booleans.

    Args:
        specs: The model's inputs.
        shapes: A complete shape for each.
        bounds: Rows of the table that an integer input indexes (``ort_graph.index_bounds``).
        seed: Seed of the values.

    Raises:
        BackendError: ``unsupported_operator``: an input of a type that is not made here (strings, sequences).
    """
    random = np.random.default_rng(seed)
    return {spec.name: _values(spec, shapes[spec.name], bounds.get(spec.name), random) for spec in specs}


def _values(spec: InputSpec, shape: tuple[int, ...], bound: int | None, random: np.random.Generator) -> NDArray[Any]:
    if spec.kind in _FLOATS:
        return random.standard_normal(shape).astype(_FLOATS[spec.kind])
    if spec.kind in _INTEGERS:
        # An integer that indexes nothing is a mask or a length: ones keep every position in play.
        values = random.integers(0, bound, shape) if bound else np.ones(shape)
        return values.astype(_INTEGERS[spec.kind])
    if spec.kind == "tensor(bool)":
        return np.ones(shape, np.bool_)
    raise BackendError(
        f"input {spec.name!r} has type {spec.kind}, which cannot be generated",
        code="unsupported_operator",
        remedy="wrap the model so that its inputs are numbers",
    )


def index_bounds(model: onnx.ModelProto) -> dict[str, int]:
    """Return, for each graph input that indexes a weight through Gather, how many rows the weight has."""
    rows = {weight.name: weight.dims[0] for weight in model.graph.initializer if weight.dims}
    inputs = {item.name for item in model.graph.input}
    bounds: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Gather" and len(node.input) == 2:
            table, indices = node.input
            if indices in inputs and table in rows:
                bounds[indices] = min(rows[table], bounds.get(indices, rows[table]))
    return bounds
