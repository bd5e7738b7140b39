"""The MIG slices of a GPU, through whatever calls NVML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Ask = Callable[..., tuple[Any, str | None]]
"""Function of NVML and its arguments → its result, or ``None`` and the name of the error."""


def slice_handles(ask: Ask, gpu: Any) -> Iterator[Any]:  # noqa: ANN401 - opaque ctypes pointers
    """Return the handles of a GPU's slices; positions of slices that were destroyed stay empty."""
    most, _ = ask("nvmlDeviceGetMaxMigDeviceCount", gpu)
    for position in range(most or 0):
        part, code = ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, position)
        if code is None:
            yield part


def memory_handle(ask: Ask, gpu: Any, instance: int | None) -> Any:  # noqa: ANN401 - opaque ctypes pointers
    """Return the handle that tells the memory of a run: its slice's, or the whole GPU's."""
    parts = () if instance is None else slice_handles(ask, gpu)
    return next((part for part in parts if ask("nvmlDeviceGetGpuInstanceId", part)[0] == instance), gpu)
