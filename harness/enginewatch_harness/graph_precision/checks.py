"""Whether a graph that was made is valid ONNX."""

from __future__ import annotations

from pathlib import Path

import onnx

from enginewatch_db.errors import BackendError

UNKNOWN_OPERATORS = "has operators outside of ONNX, so the converted graph could not be checked"


def check_graph(path: Path, source: Path, precision: str) -> tuple[str, ...]:
    """Check a made graph with types and shapes; return a note where the source itself cannot be checked.

    Raises:
        BackendError: ``build_failed``: the source is valid and the graph that was made from it is not.
    """
    why = _fault(path)
    if why is None:
        return ()
    if _fault(source) is not None:
        return (f"{source.name} {UNKNOWN_OPERATORS}",)
    raise BackendError(
        f"{source.name} in {precision} is not valid ONNX: {why}",
        code="build_failed",
        remedy="export the model with a newer operator set, or take this precision out of the plan",
    )


def _fault(path: Path) -> str | None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return None
