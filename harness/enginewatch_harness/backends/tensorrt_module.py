"""Find the Python module of TensorRT or TensorRT-RTX, and ask it for names that come and go between versions."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from enginewatch_db.errors import BackendError, NotAvailableError

MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx"}
"""Backend → Python module."""

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""Backend → extra of this project that brings the module."""

OLDEST_MAJOR = 10
"""Before it, engines ran by binding indices, which are gone since."""


def load_module(backend: str) -> ModuleType:
    """Import the module of a backend.

    Raises:
        NotAvailableError: It is absent or broken, or too old.
    """
    remedy = f"pip install 'enginewatch[{EXTRAS[backend]}]'"
    try:
        module = importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:  # OSError: the package is there and a library of it cannot be loaded
        raise NotAvailableError(
            f"the Python package {MODULES[backend]} cannot be imported: {error}", remedy=remedy
        ) from (error)
    version = str(getattr(module, "__version__", ""))
    if not hasattr(module, "Builder"):  # what is left of a package whose libraries were not found
        raise NotAvailableError(f"the Python package {MODULES[backend]} has no Builder", remedy=remedy)
    major = version.split(".")[0]
    if backend == "tensorrt" and major.isdigit() and int(major) < OLDEST_MAJOR:
        raise NotAvailableError(
            f"TensorRT {version} is too old for its Python API to be used here: {OLDEST_MAJOR} is the first",
            remedy=f"measure it with the backend trtexec, or {remedy}",
        )
    return module


def member(module: ModuleType, enum: str, name: str) -> Any:  # noqa: ANN401 - TensorRT ships no types
    """Return ``module.enum.name``, or ``None`` where this version has no such enum or member.

    Values of TensorRT's enums moved from 10 to 11, so they are only ever looked up by name.
    """
    return getattr(getattr(module, enum, None), name, None)


def require(module: ModuleType, enum: str, name: str, what: str) -> Any:  # noqa: ANN401
    """Return ``module.enum.name``.

    Raises:
        BackendError: ``build_failed``: this version has none; ``what`` names the option that asked for it.
    """
    found = member(module, enum, name)
    if found is None:
        known = ", ".join(getattr(getattr(module, enum, None), "__members__", {})) or "nothing of the kind"
        raise BackendError(
            f"{module.__name__} {module.__version__} has no {enum}.{name}, which {what} needs; it has {known}",
            code="build_failed",
            remedy="take the option out of the plan for this backend",
        )
    return found


def is_rtx(module: ModuleType) -> bool:
    """Return whether this is TensorRT-RTX, whose kernels are compiled when they first run."""
    return hasattr(module, "ComputeCapability")
