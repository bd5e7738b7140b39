"""NVTX ranges, so that Nsight Systems shows what belongs to which phase; without the package ``nvtx`` nothing."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext

DOMAIN = "enginewatch"


def marked(name: str) -> AbstractContextManager[object]:
    """Return a context whose duration is a range of that name."""
    try:
        nvtx = importlib.import_module("nvtx")
    except ImportError:
        return nullcontext()
    found: AbstractContextManager[object] = nvtx.annotate(name, domain=DOMAIN)
    return found
