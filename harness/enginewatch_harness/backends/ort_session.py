"""Sessions of ONNX Runtime: the only place that makes them, with its provider asserted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.backends.ort_errors import shorten, translated
from enginewatch_harness.backends.ort_gpu import (
    NO_CPU_NODES,
    Kept,
    fallback,
    is_fallback,
    load_cuda_libraries,
    missing_library,
    provider_list,
)
from enginewatch_harness.backends.ort_options import OrtOptions

_NOTHING = 4
_ERRORS_ONLY = 3
"""Severity of onnxruntime's logger: its warnings say things about saved graphs that are meant here."""


_LEVEL_NAMES = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def open_session(
    path: Path,
    options: OrtOptions,
    *,
    precision: str,
    optimization: str,
    model: Path | None = None,
    save_to: Path | None = None,
    profile_prefix: Path | None = None,
    kept: Kept | None = None,
    stream: int | None = None,
) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Load a model into a session of its own.

    Args:
        path: The model file.
        options: Threads and provider.
        precision: Requested precision, for messages.
        optimization: A name of ``OPTIMIZATION_LEVELS``.
        model: The model to name in messages, where ``path`` is a scratch file made from it.
        save_to: Where to save the optimised graph; ``None``: nowhere.
        profile_prefix: Prefix of the file that onnxruntime's profiler writes; ``None``: no profiler.
        kept: Where a provider's engines outlive the run.
        stream: Address of the CUDA stream to work on.

    Raises:
        BackendError: The file cannot be read or run (see ``ort_errors.classify``), or another provider is active
            than was asked for, or it left nodes to the CPU (``provider_fallback``).
    """
    import onnxruntime  # 0.2 s that no other command should pay

    if not path.is_file():
        raise BackendError(f"{path} does not exist", code="model_missing", remedy="check the model's path in the plan")
    if options.provider not in onnxruntime.get_available_providers():
        raise fallback(options.provider, f"this onnxruntime has {', '.join(onnxruntime.get_available_providers())}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVEL_NAMES[optimization])
    settings.log_severity_level = _ERRORS_ONLY
    if save_to is not None:
        settings.optimized_model_filepath = str(save_to)
    if profile_prefix is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile_prefix)
    if options.on_gpu:
        load_cuda_libraries(onnxruntime)
        if not options.allow_cpu_nodes:
            settings.add_session_config_entry(NO_CPU_NODES, "1")
    providers = provider_list(options, precision, kept=kept, stream=stream)
    with warnings.catch_warnings(), translated(model=model or path, precision=precision):
        warnings.simplefilter("ignore")  # the check of the active provider below says the same, and fails
        try:
            # Its own second try, with other providers, would only be found out later: it is switched off.
            session = onnxruntime.InferenceSession(str(path), settings, providers=providers, enable_fallback=0)
        # The boundary to onnxruntime, whose errors share no base: what is no missing provider goes on as it came.
        except Exception as error:
            if not options.on_gpu or not is_fallback(str(error)):
                raise
            raise fallback(options.provider, _why(path, providers, shorten(str(error)))) from error
    active = session.get_providers()[0]
    if active != options.provider:
        raise fallback(
            options.provider, missing_library(onnxruntime, options.provider) or f"onnxruntime chose {active}"
        )
    return session


def _why(path: Path, providers: list[tuple[str, Json]], words: str) -> str:
    """Tell a provider that cannot start from one that starts and lacks operators."""
    import onnxruntime

    missing = missing_library(onnxruntime, providers[0][0])
    if missing is not None:
        return missing
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = _NOTHING
    try:
        session = onnxruntime.InferenceSession(str(path), quiet, providers=providers, enable_fallback=0)
    # The boundary to a provider that just failed: what it says the second time adds nothing.
    except Exception:  # noqa: BLE001
        return words
    active = session.get_providers()[0]
    if active != providers[0][0]:
        return f"it cannot start here, onnxruntime chose {active}"
    return "it leaves nodes to the CPU; allow_cpu_nodes = true measures them there"
