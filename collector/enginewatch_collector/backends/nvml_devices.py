"""Which NVIDIA GPUs and MIG slices this host has, by UUID, and which of them ``CUDA_VISIBLE_DEVICES`` leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_collector.backends import nvml_codes as codes
from enginewatch_collector.backends.nvml import ask
from enginewatch_collector.backends.nvml_mig import slice_handles

_MIB = 1024 * 1024
_MIG_WORD = " MIG "
"""What NVML puts between the product of a slice's GPU and the slice's profile: ``NVIDIA H200 MIG 1g.18gb``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """A GPU or a MIG slice.

    Attributes:
        uuid: ``GPU-...`` or ``MIG-...``; what ``CUDA_VISIBLE_DEVICES`` takes.
        name: Product; that of a slice ends in its profile.
        index: NVML's index of the GPU; a slice has its GPU's.
        memory_mib: ``None`` where the driver does not tell.
        compute_capability: ``9.0``; ``None`` where the driver does not tell.
        parent_uuid: The GPU of a slice; ``None`` for a GPU.
        mig_profile: ``1g.18gb``; ``None`` for a GPU.
        gpu_instance: Id of the slice's GPU instance; ``None`` for a GPU, or where the driver does not tell.
        driver: Version of the driver; ``None`` where it does not tell.
        mig_enabled: Whether this is a GPU in MIG mode: its slices can be used, it cannot.
    """

    uuid: str
    name: str
    index: int
    memory_mib: int | None = None
    compute_capability: str | None = None
    parent_uuid: str | None = None
    mig_profile: str | None = None
    gpu_instance: int | None = None
    driver: str | None = None
    mig_enabled: bool = False

    @property
    def gpu_uuid(self) -> str:
        """UUID of the whole GPU."""
        return self.parent_uuid or self.uuid


def list_devices() -> tuple[GpuDevice, ...]:
    """Return the GPUs in NVML's order, each followed by its MIG slices.

    Raises:
        NotAvailableError: No library, no driver, or no permission; names the driver's own code.
    """
    _, code = ask("nvmlInit")
    if code is not None:
        raise codes.unavailable("no NVIDIA driver answers", code)
    try:
        count, code = ask("nvmlDeviceGetCount")
        if code is not None:
            raise codes.unavailable("no NVIDIA driver answers", code)
        return tuple(device for index in range(count) for device in _of_gpu(index))
    finally:
        ask("nvmlShutdown")


def visible(selection: str | None, devices: Sequence[GpuDevice]) -> tuple[GpuDevice, ...]:
    """Return what a process with this ``CUDA_VISIBLE_DEVICES`` can use, in NVML's order where it is unset. Pure.

    As in CUDA the list ends at the first entry that names nothing here. A number is NVML's (PCI bus order); a GPU in
    MIG mode stands for its first slice (CUDA enumerates one).

    Args:
        selection: Value of the variable; ``None`` when unset.
        devices: What ``list_devices`` found.
    """
    if selection is None:
        return tuple(device for device in devices if not device.mig_enabled)
    chosen: list[GpuDevice] = []
    for entry in (part.strip() for part in selection.split(",")):
        found = _named(entry, devices)
        if found is None or found in chosen:
            break
        chosen.append(found)
    return tuple(chosen)


def _named(entry: str, devices: Sequence[GpuDevice]) -> GpuDevice | None:
    if entry.isdecimal():
        matches = [device for device in devices if device.parent_uuid is None and device.index == int(entry)]
    else:
        matches = [device for device in devices if entry and device.uuid.lower().startswith(entry.lower())]
    if len(matches) != 1:
        return None
    (found,) = matches
    if not found.mig_enabled:
        return found
    return next((device for device in devices if device.parent_uuid == found.uuid), None)


def _of_gpu(index: int) -> list[GpuDevice]:
    handle, code = ask("nvmlDeviceGetHandleByIndex", index)
    if code is not None:
        return []  # lost, or not ours to open: nothing can run on it
    uuid, name = (ask(function, handle)[0] for function in ("nvmlDeviceGetUUID", "nvmlDeviceGetName"))
    if uuid is None or name is None:
        return []
    mode, _ = ask("nvmlDeviceGetMigMode", handle)
    enabled = bool(mode and mode[0])
    gpu = GpuDevice(
        uuid=uuid,
        name=name,
        index=index,
        memory_mib=_memory_mib(handle),
        compute_capability=_capability(handle),
        driver=ask("nvmlSystemGetDriverVersion")[0],
        mig_enabled=enabled,
    )
    return [gpu, *(_slices(handle, gpu) if enabled else [])]


def _slices(handle: Any, gpu: GpuDevice) -> list[GpuDevice]:  # noqa: ANN401 - an opaque ctypes pointer
    found = []
    for part in slice_handles(ask, handle):
        uuid = ask("nvmlDeviceGetUUID", part)[0]
        if uuid is None:
            continue  # it was destroyed meanwhile
        name = ask("nvmlDeviceGetName", part)[0] or gpu.name
        profile = name.partition(_MIG_WORD)[2] or _profile(part)
        found.append(
            GpuDevice(
                uuid=uuid,
                name=name if _MIG_WORD in name else f"{gpu.name}{_MIG_WORD}{profile}",
                index=gpu.index,
                memory_mib=_memory_mib(part),
                compute_capability=gpu.compute_capability,
                driver=gpu.driver,
                parent_uuid=gpu.uuid,
                mig_profile=profile,
                gpu_instance=ask("nvmlDeviceGetGpuInstanceId", part)[0],
            )
        )
    return found


def _profile(part: Any) -> str:  # noqa: ANN401 - an opaque ctypes pointer
    """Return the profile's name as NVIDIA writes it, for a driver whose product name lacks it."""
    facts, _ = ask("nvmlDeviceGetAttributes", part)
    if facts is None:
        return "unknown"
    compute, slices = int(facts.computeInstanceSliceCount), int(facts.gpuInstanceSliceCount)
    shared = "" if compute == slices else f"{compute}c."
    return f"{shared}{slices}g.{round(facts.memorySizeMB / 1024)}gb"


def _memory_mib(handle: Any) -> int | None:  # noqa: ANN401 - an opaque ctypes pointer
    memory, _ = ask("nvmlDeviceGetMemoryInfo", handle)
    return None if memory is None else int(memory.total) // _MIB


def _capability(handle: Any) -> str | None:  # noqa: ANN401 - an opaque ctypes pointer
    found, _ = ask("nvmlDeviceGetCudaComputeCapability", handle)
    return None if found is None else f"{found[0]}.{found[1]}"
