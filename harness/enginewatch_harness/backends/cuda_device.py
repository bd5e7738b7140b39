"""The GPU that a library in this process would use, found without importing that library."""

from __future__ import annotations

import os
from functools import cache

from enginewatch_collector.backends.nvml_devices import list_devices, visible
from enginewatch_db.errors import BackendError


@cache
def first_gpu() -> str | None:
    """Return the product name of the GPU that CUDA numbers 0 here; ``None`` where the driver shows none."""
    try:
        found = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), list_devices())
    except BackendError:
        return None
    return found[0].name if found else None
