"""Why a run of trtexec failed: known strings → stable failure codes with a remedy. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_db.errors import BackendError
from enginewatch_harness.parse.trtexec_lines import LogLine

_MAX_WORDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePattern:
    """One known failure.

    Attributes:
        pattern: What the tool prints (case matters).
        code: A key of ``errors.FAILURE_CODES``.
        remedy: What to do next.
    """

    pattern: re.Pattern[str]
    code: str
    remedy: str


def _known(text: str, code: str, remedy: str) -> FailurePattern:
    return FailurePattern(pattern=re.compile(text), code=code, remedy=remedy)


FAILURES: tuple[FailurePattern, ...] = (
    _known(
        r"CUDA driver version is insufficient|no CUDA-capable device|CUDA_ERROR_NO_DEVICE|Cuda Runtime \(no CUDA|"
        r"Unable to load library: libcuda|libcuda\.so\.1: cannot open",
        "driver_insufficient",
        "run it on a host with an NVIDIA GPU whose driver is as new as TensorRT's CUDA (`nvidia-smi` shows both)",
    ),
    _known(
        r"invalid device ordinal|Cannot find device ID|Could not find CUDA device",
        "wrong_device",
        "correct the device in the plan: `nvidia-smi -L` lists those of this host",
    ),
    _known(
        r"Accuracy validation FAILED",
        "accuracy_failed",
        "check the precision, or the threshold that the references were given",
    ),
    _known(r"No space left on device", "disk_full", "free disk space, or move the workspace"),
    _known(
        r"Unknown option: ",
        "unknown_flag",
        "this version lacks the option; TensorRT 11 has no precision flags: put the precision into the model",
    ),
    _known(
        r"Cuda Runtime \(out of memory\)|OutOfMemory \(no further information\)"
        r"|Requested amount of GPU memory \(\d+ bytes\) could not be allocated|CUDA error: out of memory"
        r"|Cuda failure.*out of memory|std::bad_alloc|CUDA_ERROR_OUT_OF_MEMORY|Cuda Driver \(out of memory\)",
        "out_of_memory",
        "free GPU memory, lower the batch, or limit workspace_mib",
    ),
    _known(
        r"Version tag does not match|magicTag == rt::kPLAN_MAGIC_TAG failed|kSERIALIZATION_VERSION failed",
        "version_mismatch",
        "build the engine again with this version of TensorRT",
    ),
    _known(
        r"generated on an incompatible device|expecting compute \S+ got compute",
        "wrong_device",
        "build the engine again on this GPU",
    ),
    _known(
        r"Plugin not found|getPluginCreator could not find plugin|Unable to load library: (?!libcuda)"
        r"|[Cc]annot open (?:safety )?plugin library",
        "plugin_missing",
        "register the plugin's library, or export the model without it",
    ),
    _known(
        r"No importer registered for op|UNSUPPORTED_NODE|No Op registered for|is not a registered function/op",
        "unsupported_operator",
        "export the model with operators that TensorRT's parser knows, or add a plugin",
    ),
    _known(
        r"In function import\w+:",
        "unsupported_operator",
        "TensorRT's parser refuses this use of the operator: export the model with the operator set of that release",
    ),
    _known(
        r"Could not open file |Model missing or format not recognized|Error opening engine file: ",
        "model_missing",
        "check the model's path in the plan",
    ),
    _known(
        r"does not satisfy any optimization profile|satisfyProfile|Cannot find input tensor with name"
        r"|Static model does not take explicit shapes|The engine was built with static shapes for input tensor"
        r"|Invalid tensor names found in --(?:shapes|loadInputs)|Selected profile index"
        r"|Unexpected file size for input file"
        r"|Required optimization profile is invalid|have dynamic or shape inputs, but no optimization profile",
        "shape_outside_profile",
        "correct shapes in the plan, or raise max_batch and build again",
    ),
    _known(
        r"Failed to parse onnx file|Parsing model failed|ModelImporter\.cpp:\d+: ERROR:|Failed to parse ONNX model",
        "model_corrupt",
        "export the model again, and check it with `python -m onnx.checker`",
    ),
    _known(
        r"Serialization assertion|Engine deserialization failed|Error loading engine file: |Got invalid engine!",
        "engine_corrupt",
        "delete the engine and build it again",
    ),
    _known(
        r"Could not find any implementation for node|Engine could not be created from network"
        r"|Failed to create engine from model or file|Engine set up failed",
        "build_failed",
        "read the build's log: its first error names the layer",
    ),
    _known(
        r"Inference set up failed|Error occurred during inference|Inference enqueue failed\.|Cuda failure",
        "crashed",
        "read the run's log; look for XID errors in dmesg",
    ),
    _known(r"Uncaught exception detected: ", "crashed", "read the run's log"),
)
"""In this order: a cause before what follows from it (no memory, hence no implementation, hence no engine)."""


def explain_failure(lines: Sequence[LogLine], returncode: int, what: str) -> BackendError:
    """Return the error that says why the tool failed: code, first error as cause, last as context, remedy.

    Args:
        lines: All lines, standard error first.
        returncode: Exit status; negative: the number of the signal.
        what: What was being done, for the message, for example ``build of resnet50``.
    """
    errors = _errors(lines)
    # Lines without a severity count as well: the parser's own "Could not open file" has none.
    texts = errors + [line.text for line in lines if line.severity is None]
    words = _cause(errors)
    for known in FAILURES:
        hit = next((text for text in texts if known.pattern.search(text)), None)
        if hit is not None:
            shown = words if _clip(hit) in words else f"{_clip(hit)}{f' ({words})' if words else ''}"
            return BackendError(f"{what}: {shown}", code=known.code, remedy=known.remedy)
    number = signal_number(returncode)
    if number is not None:
        return _killed(number, words, what)
    ending = f"trtexec ended with status {returncode} without a result"
    return BackendError(
        f"{what}: {words or ending}", code="crashed", remedy="read its logs in the run's folder: the last lines tell"
    )


def _errors(lines: Sequence[LogLine]) -> list[str]:
    """Return the errors; one that ends with a colon says why in the next line, which has no severity."""
    found = []
    for index, line in enumerate(lines):
        if line.severity in ("E", "F"):
            rest = lines[index + 1 : index + 2]
            goes_on = line.text.endswith(":") and rest and rest[0].severity is None
            found.append(f"{line.text} {rest[0].text}" if goes_on else line.text)
    return found


def _cause(errors: Sequence[str]) -> str:
    if not errors:
        return ""
    first, last = _clip(errors[0]), _clip(errors[-1])
    return first if first == last else f"{first} (then: {last})"


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_WORDS else text[: _MAX_WORDS - 1] + "…"


def signal_number(returncode: int) -> int | None:
    """Return the signal that ended a process: -11 and a shell's 139 are both 11; ``None`` for an ordinary exit."""
    number = -returncode if returncode < 0 else returncode - 128
    return number if 0 < number < signal.NSIG else None


def _killed(number: int, words: str, what: str) -> BackendError:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    memory = " (the kernel ends processes so when memory runs out)" if number == signal.SIGKILL else ""
    return BackendError(
        f"{what}: trtexec was killed by {name}{memory}{f': {words}' if words else ''}",
        code="killed",
        remedy="read dmesg" if memory else "read its logs in the run's folder",
    )
