"""Check the options of a plan, value by value. Pure.

One workload may name several backends, and its options go to each of them: a backend passes over the options
that only its sibling knows, and refuses what no backend for ONNX models knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json

Shapes = dict[str, tuple[int, ...]]

MOST = 1e6
"""Above any delay in ms, any limit in s and any share in %: more is a slip, and no timer takes it."""

ACCURACY = ("accuracy_data", "accuracy_batches")
"""Read by ``accuracy.reference`` for every backend."""

CALIBRATION = ("calibration_samples", "calibration_seed", "calibration_data", "per_channel", "quantize_ops")
"""Read by ``graph_precision`` for every backend that builds from such a graph."""


def known_options() -> dict[str, list[str]]:
    """Return the options of each backend for ONNX models."""
    from enginewatch_harness.backends.ort_options import OrtOptions
    from enginewatch_harness.backends.tensorrt_options import TensorrtOptions
    from enginewatch_harness.backends.torch_options import TorchOptions
    from enginewatch_harness.backends.trtexec_options import TrtexecOptions

    known = {
        "onnxruntime": [field.name for field in fields(OrtOptions)],
        "tensorrt": [field.name for field in fields(TensorrtOptions)],
        "tensorrt_rtx": [field.name for field in fields(TensorrtOptions)],
        "torch": [field.name for field in fields(TorchOptions)],
        "torch_compile": [field.name for field in fields(TorchOptions)],
        "torch_tensorrt": [field.name for field in fields(TorchOptions)],
        "trtexec": [*(field.name for field in fields(TrtexecOptions)), *CALIBRATION],
    }
    return {name: [*names, *ACCURACY] for name, names in known.items()}


def refuse_foreign(options: Json, backend: str) -> None:
    """Check the names of the options that a plan gives to one backend alone.

    Raises:
        PlanError: An option that only another backend has; what no backend has, the backend's own parser refuses.
    """
    known = known_options()
    for key in options:
        owners = [name for name, names in known.items() if key in names]
        if backend in known and owners and backend not in owners:
            raise PlanError(
                f"backend_options.{backend} has {key!r}, an option of {', '.join(owners)}",
                remedy=f"move it to backend_options.{owners[0]}",
            )


def refuse_unknown(options: Json, backend: str) -> None:
    """Check the names of all options.

    Raises:
        PlanError: An option that no backend for ONNX models has; names the nearest one of ``backend``.
    """
    known = known_options()
    everything = {name for names in known.values() for name in names}
    for key in options:
        if key not in everything:
            near = difflib.get_close_matches(key, known[backend], n=1, cutoff=0.0)[0]
            raise PlanError(f"unknown {backend} option {key!r}", remedy=f"did you mean {near!r}?")


def _bad(key: str, value: Any, expected: str) -> PlanError:  # noqa: ANN401 - the value comes from a file
    return PlanError(f"option {key} = {value!r} must be {expected}", remedy="correct options in the plan")


def integer(options: Json, key: str, default: int, *, low: int) -> int:
    """Return an integer of at least ``low``.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise _bad(key, value, f"an integer of at least {low}")
    return value


def optional_integer(options: Json, key: str, *, low: int, high: int) -> int | None:
    """Return an integer from ``low`` to ``high``, or ``None`` where the plan has none.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(key, value, f"an integer from {low} to {high}")
    return value


def text(options: Json, key: str, default: str) -> str:
    """Return a string that is not empty.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, default)
    if not isinstance(value, str) or not value:
        raise _bad(key, value, "a string")
    return value


def optional_text(options: Json, key: str) -> str | None:
    """Return a string that is not empty, or ``None`` where the plan has none.

    Raises:
        PlanError: It is something else.
    """
    return text(options, key, "") if key in options else None


def choice(options: Json, key: str, default: str, allowed: Sequence[str]) -> str:
    """Return one of ``allowed``.

    Raises:
        PlanError: It is something else.
    """
    value = text(options, key, default)
    if value not in allowed:
        raise _bad(key, value, f"one of {', '.join(allowed)}")
    return value


def flag(options: Json, key: str, default: bool) -> bool:
    """Return a boolean.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, default)
    if not isinstance(value, bool):
        raise _bad(key, value, "true or false")
    return value


def names(options: Json, key: str) -> tuple[str, ...]:
    """Return a list of strings, empty where the plan has none.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _bad(key, value, "a list of strings")
    return tuple(value)


def positive(options: Json, key: str, default: float = 0.0) -> float:
    """Return a number from 0 to ``MOST``.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise _bad(key, value, f"a number from 0 to {MOST:.0f}")
    return float(value)


def optional_flag(options: Json, key: str) -> bool | None:
    """Return a boolean, or ``None`` where the plan has none.

    Raises:
        PlanError: It is something else.
    """
    return flag(options, key, False) if options.get(key) is not None else None


def shapes(options: Json, key: str) -> Shapes:
    """Return input → dimensions, empty where the plan has none.

    Raises:
        PlanError: It is something else.
    """
    value = options.get(key, {})
    if not isinstance(value, dict):
        raise PlanError(f"option {key} = {value!r} must be a table", remedy="write { input = [1, 3, 224, 224] }")
    for name, dims in value.items():
        if not isinstance(dims, list | tuple) or not all(type(dim) is int and dim > 0 for dim in dims):
            raise PlanError(
                f"option {key}: {name} = {dims!r} must be a list of integers above 0",
                remedy="write { input = [1, 3, 224, 224] }",
            )
    return {str(name): tuple(dims) for name, dims in value.items()}


def refuse_contradictions(
    *, strict_timing_cache: bool, timing_cache: str | None, opt_batch: int | None, max_batch: int | None
) -> None:
    """Check options of a build with TensorRT that need each other.

    Raises:
        PlanError: One is there without the other.
    """
    if strict_timing_cache and timing_cache is None:
        raise PlanError("option strict_timing_cache needs timing_cache", remedy="name the file of the timing cache")
    if opt_batch is not None and (max_batch is None or opt_batch > max_batch):
        raise PlanError(
            f"option opt_batch = {opt_batch} needs a max_batch of at least as much",
            remedy="set max_batch to the largest batch of the workload",
        )
