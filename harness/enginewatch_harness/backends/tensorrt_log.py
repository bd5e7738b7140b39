"""What TensorRT says while it works: kept, and read when something fails.

An ``IErrorRecorder`` is not used on purpose: it takes errors away from the logger, and one written in Python crashes
TensorRT-RTX 1.7.1 (segmentation fault) when a model cannot be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_harness.parse.trtexec_failures import FAILURES, FailurePattern
from enginewatch_harness.parse.trtexec_lines import LogLine

_SEVERITIES = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}
_MAX_WORDS = 240
_MAX_LINES = 20_000

_KEPT_VERBOSE = re.compile(r"^(?:Layers:|Engine Layer Information)")
"""A verbose build of a large model says 100,000 lines; these tell the layers of the engine."""


def _known(text: str, code: str, remedy: str) -> FailurePattern:
    return FailurePattern(pattern=re.compile(text), code=code, remedy=remedy)


_FIRST = (
    _known(r"BuildCanceled|Build canceled by user", "timeout", "raise build_timeout_s, or lower optimization_level"),
    _known(
        r"no optimization profile has been defined|Invalid optimization profiles",
        "shape_outside_profile",
        "give shapes in the plan for every input with an open dimension",
    ),
    _known(r"Input file cannot be found", "model_missing", "check the model's path in the plan"),
    _known(
        r"Failed to parse the ONNX model|MODEL_DESERIALIZE_FAILED",
        "model_corrupt",
        "export the model again, and check it with `python -m onnx.checker`",
    ),
    _known(
        r"Unable to load library: libnvinfer_lean",
        "build_failed",
        "install the lean runtime, or take version_compatible out of the plan",
    ),
)
"""What the API words in another way than trtexec; before the common table."""

_NO_DRIVER = re.compile(r"CUDA driver version is insufficient|no CUDA-capable device|CUDA initialization failure")
"""Without a GPU such a line stands beside every other error, so it counts only where nothing else does."""


class LogKeeper:
    """Lines that a library logged in this process, oldest first."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.dropped = 0

    def keep(self, severity: str, text: str) -> None:
        """Keep one message; a verbose one only when it tells layers. Called from threads of the library."""
        letter = _SEVERITIES.get(severity, "I")
        if letter == "V" and not _KEPT_VERBOSE.match(text):
            return
        if len(self.lines) >= _MAX_LINES and letter not in ("E", "F"):
            self.dropped += 1
            return
        self.lines.append(LogLine(text=text, severity=letter, library=True))

    def since(self, mark: int) -> list[LogLine]:
        """Return the lines after the first ``mark`` ones."""
        return self.lines[mark:]

    def text(self, mark: int = 0) -> str:
        """Return the lines as a log file."""
        return "".join(f"[{line.severity}] {line.text}\n" for line in self.since(mark))


@cache
def logger(module: ModuleType) -> tuple[Any, LogKeeper]:
    """Return the process's one logger for a library: the first that is registered wins, so there is only one."""
    keeper = LogKeeper()

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401
            keeper.keep(severity.name, msg)

    return Logger(), keeper


def explain(lines: Sequence[LogLine], what: str, *, code: str, remedy: str) -> BackendError:
    """Return the error that says why a call failed: its stable code, the first error as cause, the last as context.

    Args:
        lines: What was logged since the call began.
        what: What was being done, for the message.
        code: Code where no known failure is among the lines.
        remedy: What to do next in that case.
    """
    said = [line.text for line in lines if line.severity in ("E", "F")]
    errors = [text for text in said if not _NO_DRIVER.search(text)] or said
    for known in (*_FIRST, *FAILURES):
        hit = next((text for text in errors if known.pattern.search(text)), None)
        if hit is not None:
            return BackendError(f"{what}: {_clip(hit)}", code=known.code, remedy=known.remedy)
    words = _clip(errors[0]) if errors else "TensorRT gave no reason"
    if len(errors) > 1 and errors[-1] != errors[0]:
        words += f" (then: {_clip(errors[-1])})"
    return BackendError(f"{what}: {words}", code=code, remedy=remedy)


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_WORDS else text[: _MAX_WORDS - 1] + "…"
