"""Why a server ended or never became ready, by its log. Pure."""

from __future__ import annotations

import re

_SIGNS: tuple[tuple[str, str, str], ...] = (
    (
        "out_of_memory",
        r"CUDA out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|Not enough memory"
        r"|No available memory for the cache blocks|less than desired GPU memory utilization"
        r"|(?:unable|failed) to allocate (?:\w+ )?buffer|larger than the (?:maximum|available).{0,40}KV cache",
        "lower the server's share of memory or the context, use more GPUs, or a smaller model",
    ),
    (
        "port_in_use",
        r"(?i:address already in use)|EADDRINUSE|\[Errno 98\]|couldn't bind HTTP server socket",
        "stop that process, or set options.port = 0 for a free one",
    ),
    (
        "unknown_flag",
        r"unrecognized arguments|[Nn]o such option|unknown argument|error: invalid argument|unknown flag"
        r"|Got unexpected extra argument",
        "correct options.args, or the version of the server",
    ),
    (
        "model_missing",
        r"Repository Not Found|RepositoryNotFoundError|is not a local folder and is not a valid model identifier"
        r"|does not appear to have a file named config\.json|failed to open GGUF file|Can't load the configuration of",
        "correct the model's path or name in the plan",
    ),
    (
        "model_corrupt",
        r"SafetensorError|invalid magic characters|tensor .{1,80} data is not within the file bounds|HeaderTooLarge"
        r"|failed to read magic",
        "copy the model again",
    ),
    (
        "unsupported_precision",
        r"[Qq]uantization method .{0,60}(?:not supported|is not supported)|Unknown quantization method"
        r"|Bfloat16 is only supported on GPUs with compute capability",
        "use another precision or a GPU that has it",
    ),
    (
        "unsupported_operator",
        r"unknown model architecture|are not supported for now|Unsupported (?:model )?architecture"
        r"|has no vLLM implementation",
        "use a version of the server that knows this model",
    ),
    (
        "plugin_missing",
        r"ModuleNotFoundError: No module named",
        "install what the log names into the server's environment",
    ),
)
_COMPILED = tuple((code, re.compile(pattern), remedy) for code, pattern, remedy in _SIGNS)
_NOTABLE = re.compile(r"\b(?:Error|ERROR|error:|Exception|CRITICAL|fatal|FATAL)\b")


def diagnose(log: str) -> tuple[str, str] | None:
    """Return the failure code that a log shows and the remedy; ``None`` where it shows none."""
    for code, pattern, remedy in _COMPILED:
        if pattern.search(log):
            return code, remedy
    return None


def last_words(log: str, *, lines: int = 6, limit: int = 1_200) -> str:
    """Return what a reader of an error wants of a log: its last lines that name an error, else its end."""
    kept = [line.strip() for line in log.splitlines() if line.strip()]
    notable = [line for line in kept if _NOTABLE.search(line)]
    shown = (notable or kept)[-lines:]
    return " | ".join(shown)[-limit:] or "(its log is empty)"
