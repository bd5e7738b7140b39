"""ONNX Runtime's exceptions → errors of enginewatch with a stable code and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from enginewatch_db.errors import BackendError, MeasurementError

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed: ?")
_SOURCE = re.compile(r"/\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])", re.DOTALL)
_UNSUPPORTED = re.compile(r"Could not find an implementation for ([\w.:]+\(\d+\)) node with name '([^']*)'")
_BAD_TYPE = re.compile(r"Type 'tensor\((\w+)\)' of input parameter \([^)]*\) of operator \(([\w.:]+)\)")
_UNKNOWN_OP = re.compile(r"No Op registered for (\S+)|(\S+?)\(-?\d+\) is not a registered function/op")
_MAX_REASON = 300

_SHAPE_WORDS = ("Got invalid dimensions", "Invalid rank for input", "dimension mismatch", "cannot be broadcast")
_MEMORY_WORDS = ("Failed to allocate memory", "bad allocation", "bad_alloc", "out of memory")
_CORRUPT_WORDS = (
    "INVALID_PROTOBUF",
    "No graph was found in the protobuf",
    "Invalid model.",
    "This is an invalid model",
    "Unsupported model IR version",
    "under development and support for this is limited",
)


@cache
def _ort_exceptions() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    # IOBinding raises RuntimeError, bad feeds raise ValueError, Python's own allocations raise MemoryError.
    return (*own, RuntimeError, ValueError, MemoryError)


def shorten(reason: str) -> str:
    """Return ONNX Runtime's own words without its prefix, source paths and line breaks; at most 300 characters."""
    text = _SOURCE.sub("", _PREFIX.sub("", reason))
    text = " ".join(text.split())
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"


def classify(reason: str, *, model: Path, precision: str) -> BackendError:
    """Map one message of ONNX Runtime to an error.

    Args:
        reason: The exception's text.
        model: The file at work, for the message.
        precision: Requested precision: an operator without an implementation is the precision's fault
            when the graph was converted.
    """
    words = shorten(reason)
    if any(word in reason for word in _MEMORY_WORDS):
        return BackendError(
            f"{model.name}: not enough memory: {words}", code="out_of_memory", remedy="use a smaller batch or model"
        )
    if "NO_SUCHFILE" in reason or "File doesn't exist" in reason:
        return BackendError(
            f"{model} does not exist", code="model_missing", remedy="check the model's path in the plan"
        )
    if any(word in reason for word in _SHAPE_WORDS):
        return BackendError(
            f"{model.name}: an input has the wrong shape: {words}",
            code="shape_outside_profile",
            remedy="correct shapes in the plan",
        )
    operator = _operator(reason)
    if operator is not None:
        return _unsupported(operator, words, model, precision, unknown=_UNKNOWN_OP.search(reason) is not None)
    if any(word in reason for word in _CORRUPT_WORDS):
        return BackendError(
            f"{model} cannot be read as an ONNX model: {words}", code="model_corrupt", remedy="export the model again"
        )
    return MeasurementError(f"{model.name}: ONNX Runtime failed: {words}", code="crashed")


def _operator(reason: str) -> str | None:
    if match := _UNSUPPORTED.search(reason):
        return match[1]
    if match := _BAD_TYPE.search(reason):
        return f"{match[2]} with {match[1]}"
    if match := _UNKNOWN_OP.search(reason):
        return match[1] or match[2]
    return None


def _unsupported(operator: str, words: str, model: Path, precision: str, *, unknown: bool) -> BackendError:
    if unknown or precision == "fp32":
        return BackendError(
            f"{model.name}: ONNX Runtime does not know the operator {operator}: {words}",
            code="unsupported_operator",
            remedy="export the model with standard operators, or register the custom operator's library",
        )
    return BackendError(
        f"{model.name}: precision {precision} cannot run here: no implementation of {operator}: {words}",
        code="unsupported_precision",
        remedy="take this precision out of the plan, or choose a provider that implements it",
    )


@contextmanager
def translated(*, model: Path, precision: str) -> Iterator[None]:
    """Turn ONNX Runtime's exceptions inside the block into ``BackendError``.

    Raises:
        BackendError: With a code of ``FAILURE_CODES``; the original is its cause.
    """
    try:
        yield
    except BackendError:
        raise
    except _ort_exceptions() as error:
        text = "bad allocation" if isinstance(error, MemoryError) else str(error)
        raise classify(text, model=model, precision=precision) from error
