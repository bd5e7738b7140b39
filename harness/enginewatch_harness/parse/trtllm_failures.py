"""Why a tool of TensorRT-LLM failed: known strings → stable failure codes with a remedy. Pure.

The tools end in a Python traceback whose last line is often only a consequence (``Executor worker returned error``), so
the whole log is searched, and the patterns stand in the order of what is nearest to the cause.
"""

from __future__ import annotations

import re
import signal

from enginewatch_db.errors import BackendError

_MAX_WORDS = 240
_SHELL_KILLED = 128

_FAILURES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), code, remedy)
    for pattern, code, remedy in (
        (
            r"No such option:? |[Nn]o such command|unrecognized arguments: |Got unexpected extra argument"
            r"|Invalid value for '--(?!dataset|engine_dir|model_path)|invalid choice: ",
            "unknown_flag",
            "this version lacks the option or its value: correct the plan's options, or use TensorRT-LLM 1.x",
        ),
        (r"No space left on device|\[Errno 28\]", "disk_full", "free space in the workspace, and run again"),
        (
            r"CUDA out of memory|OutOfMemoryError|cudaErrorMemoryAllocation|CUDA error: out of memory"
            r"|[Cc]uda [Rr]untime \(out of memory\)|OutOfMemory \(no further information\)|insufficient GPU memory"
            r"|Requested amount of GPU memory|std::bad_alloc|[Oo]ut of memory|free memory is not enough",
            "out_of_memory",
            "free GPU memory, lower kv_cache_free_gpu_mem_fraction, max_batch_size or max_num_tokens, or raise tp",
        ),
        (
            r"no CUDA-capable device|No GPU devices? found|Found no NVIDIA driver|CUDA driver version is insufficient"
            r"|No CUDA GPUs are available|NVML_ERROR_DRIVER_NOT_LOADED|libcuda\.so\.1: cannot open",
            "not_available",
            "run on a machine with an NVIDIA GPU and its driver; in a container, start it with --gpus all",
        ),
        (
            r"Version tag does not match|kSERIALIZATION_VERSION failed|magicTag == rt::kPLAN_MAGIC_TAG"
            r"|not compatible with this version of TensorRT|[Ee]ngine version .* does not match"
            r"|expecting library version",
            "version_mismatch",
            "build the engine again with this version of TensorRT-LLM",
        ),
        (
            r"generated on an incompatible device|expecting compute \S+ got compute",
            "wrong_device",
            "build the engine again on this GPU",
        ),
        (
            r"Engine supports a max sequence of|Please rebuild a new engine"
            r"|exceeds? (?:the )?max(?:imum)?[ _]?(?:seq|input)|should not exceed max_(?:seq_len|num_tokens|input_len)"
            r"|larger than max_(?:seq_len|num_tokens)",
            "shape_outside_profile",
            "lower isl or osl in the plan, or raise max_seq_len or max_num_tokens (and build again)",
        ),
        (
            r"Unsupported model architecture|Unknown architecture|is not supported by TensorRT[- ]LLM"
            r"|model type `?\S+`? but Transformers does not recognize|Could not find .*Plugin|Plugin not found",
            "unsupported_operator",
            "this version does not know the model: use a newer one",
        ),
        (
            r"(?:FP8|FP4|NVFP4|fp8|fp4|INT4|INT8|W\dA\d+\w*)[^\n]{0,80}(?:is|are) not supported"
            r"|[Uu]nsupported quant(?:ization|_algo)|only supported on (?:Hopper|Blackwell|Ada|SM)",
            "unsupported_precision",
            "choose a precision that this GPU and this version run",
        ),
        (
            r"is not a local folder and is not a valid model identifier|Repository Not Found|does not exist\."
            r"|No such file or directory|FileNotFoundError|OfflineModeIsEnabled|LocalEntryNotFoundError",
            "model_missing",
            "check the model's path or name in the plan",
        ),
        (
            r"SafetensorError|HeaderTooLarge|JSONDecodeError|deserializeCudaEngine|Failed to deserialize",
            "model_corrupt",
            "download or build the model again",
        ),
    )
)


def last_words(log: str) -> str:
    """Return the last line that says something, shortened."""
    lines = [line.strip() for line in log.splitlines() if line.strip(" \t=-*.")]
    return lines[-1][-_MAX_WORDS:] if lines else "it printed nothing"


def failure(log: str, returncode: int, *, what: str, tool: str, otherwise: str) -> BackendError:
    """Return why a tool failed.

    Args:
        log: Its standard output and standard error.
        returncode: Exit status; negative, or above 128 from a shell: killed by a signal.
        what: What it was doing, for the message.
        tool: Its name.
        otherwise: Code where nothing is recognised.
    """
    for pattern, code, remedy in _FAILURES:
        match = pattern.search(log)
        if match is not None:
            line = log[log.rfind("\n", 0, match.start()) + 1 :].splitlines()[0].strip()
            return BackendError(f"{what}: {tool} said: {line[-_MAX_WORDS:]}", code=code, remedy=remedy)
    number = -returncode if returncode < 0 else returncode - _SHELL_KILLED
    if returncode < 0 or number in (signal.SIGKILL, signal.SIGTERM):
        return BackendError(
            f"{what}: {tool} was killed by {_signal(number)}; its last words: {last_words(log)}",
            code="killed",
            remedy="see dmesg: where the kernel killed it, host memory ran out",
        )
    return BackendError(
        f"{what}: {tool} ended with status {returncode}; its last words: {last_words(log)}",
        code=otherwise,
        remedy="read its log in the run's folder",
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
