"""The GPUs of this host as a session may use them, and which backends use one: asked once in a process."""

from __future__ import annotations

import os
from functools import cache

from enginewatch_db.errors import NotAvailableError
from enginewatch_db.model import Json
from enginewatch_harness.backends.base import UsesGpu
from enginewatch_harness.gpu_choice import Host
from enginewatch_harness.registry import backend

GPU_BACKENDS = frozenset({"trtexec", "tensorrt", "tensorrt_rtx"})
"""Backends that run on a GPU whatever their options are, where they do not say so themselves (``UsesGpu``)."""


@cache
def host_gpus() -> Host:
    """Return the GPUs and MIG slices that ``CUDA_VISIBLE_DEVICES`` leaves; where no driver answers, why."""
    # Imported here: loading the binding costs time that a session on the CPU need not spend.
    from enginewatch_collector.backends.nvml_devices import list_devices, visible

    try:
        found = list_devices()
    except NotAvailableError as error:
        return Host(driver_why=error.message)
    return Host(devices=visible(os.environ.get("CUDA_VISIBLE_DEVICES"), found))


def uses_gpu(name: str, options: Json) -> bool:
    """Return whether a case of this backend with these options is to be bound to one GPU.

    Args:
        name: An installed backend.
        options: Its options.
    """
    tool = backend(name)
    if isinstance(tool, UsesGpu):
        return tool.uses_gpu(options)
    if name == "trtllm":
        # A model that is spread over several GPUs cannot be bound to one.
        return all(options.get(key, 1) == 1 for key in ("tp", "pp"))
    return name in GPU_BACKENDS
