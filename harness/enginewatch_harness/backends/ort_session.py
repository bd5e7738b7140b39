"""Sessions of ONNX Runtime: the only place that makes them, with its provider asserted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_options import OrtOptions

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

    Raises:
        BackendError: The file cannot be read or run (see ``ort_errors.classify``), or another provider is active
            than was asked for (``provider_fallback``).
    """
    import onnxruntime  # 0.2 s that no other command should pay

    if not path.is_file():
        raise BackendError(f"{path} does not exist", code="model_missing", remedy="check the model's path in the plan")
    if options.provider not in onnxruntime.get_available_providers():
        raise _fallback(options.provider, f"this onnxruntime has {', '.join(onnxruntime.get_available_providers())}")
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
    with warnings.catch_warnings(), translated(model=model or path, precision=precision):
        warnings.simplefilter("ignore")  # the check of the active provider below says the same, and fails
        session = onnxruntime.InferenceSession(str(path), settings, providers=[options.provider])
    active = session.get_providers()[0]
    if active != options.provider:
        raise _fallback(options.provider, f"onnxruntime chose {active}")
    return session


def _fallback(provider: str, why: str) -> BackendError:
    return BackendError(
        f"execution provider {provider} is not active: {why}",
        code="provider_fallback",
        remedy="pip install onnxruntime-gpu and check its driver, or set provider to one that is here",
    )
