"""Torch's exceptions → errors of enginewatch with a stable code and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enginewatch_db.errors import BackendError, MeasurementError

_MAX_REASON = 300
_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "DefaultCPUAllocator")
_NO_KERNEL = re.compile(r'"?([\w:]+)"? not implemented for \'(\w+)\'')
_SHAPES = ("shape", "size of tensor", "sizes of tensors", "expected input", "Guard failed", "to be equal to")
_COMPILER = (
    "BackendCompilerFailed",
    "InductorError",
    "InvalidCxxCompiler",
    "Unsupported",
    "TritonMissing",
    "CppCompile",
)
_NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "TritonMissing", "Cannot find a working triton")


def shorten(reason: str) -> str:
    """Return the first telling line of an exception's text, at most 300 characters."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    text = lines[0] if lines else "it gave no reason"
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1] + "…"


def classify(error: BaseException, *, model: Path, precision: str) -> BackendError:
    """Map one exception of torch to an error, by its type's name and its words.

    Args:
        error: What was raised.
        model: The file at work, for the message.
        precision: Requested precision.
    """
    kind, words = type(error).__name__, str(error)
    said = shorten(words)
    if "OutOfMemory" in kind or isinstance(error, MemoryError) or any(word in words for word in _MEMORY):
        return BackendError(
            f"{model.name}: not enough memory: {said}", code="out_of_memory", remedy="use a smaller batch or model"
        )
    missing = _NO_KERNEL.search(words)
    if missing:
        return BackendError(
            f"{model.name}: precision {precision} cannot run here: torch has no {missing[1]} for {missing[2]}",
            code="unsupported_precision",
            remedy="take this precision out of the plan, or choose another torch_device",
        )
    if any(word in kind or word in words for word in _NO_COMPILER):
        return BackendError(
            f"{model.name}: torch.compile found no compiler: {said}",
            code="build_failed",
            remedy="install g++ (CPU) or triton (GPU)",
        )
    if any(word in kind for word in _COMPILER):
        return BackendError(
            f"{model.name}: the compiler failed: {kind}: {said}",
            code="build_failed",
            remedy="compare with the backend torch, or give another compile_mode",
        )
    if isinstance(error, RuntimeError | AssertionError | ValueError) and any(word in words for word in _SHAPES):
        return BackendError(
            f"{model.name}: an input does not fit: {said}",
            code="shape_outside_profile",
            remedy="correct shapes in the plan",
        )
    return MeasurementError(f"{model.name}: torch failed: {kind}: {said}", code="crashed")


@contextmanager
def translated(*, model: Path, precision: str) -> Iterator[None]:
    """Turn torch's exceptions inside the block into ``BackendError``.

    Raises:
        BackendError: With a code of ``FAILURE_CODES``; the original is its cause.
    """
    try:
        yield
    except BackendError:
        raise
    # The boundary to torch: its compilers raise anything, and each must end as a coded failure of this one run.
    except Exception as error:
        raise classify(error, model=model, precision=precision) from error
