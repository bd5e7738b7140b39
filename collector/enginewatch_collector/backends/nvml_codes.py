"""Pure facts about NVML: return codes by name, and which fields of which driver can be trusted."""

from __future__ import annotations

import re

from enginewatch_db.errors import NotAvailableError

RETURN_CODES: dict[int, str] = {
    0: "success",
    1: "uninitialized",
    2: "invalid_argument",
    3: "not_supported",
    4: "no_permission",
    5: "already_initialized",
    6: "not_found",
    7: "insufficient_size",
    8: "insufficient_power",
    9: "driver_not_loaded",
    10: "timeout",
    11: "irq_issue",
    12: "library_not_found",
    13: "function_not_found",
    14: "corrupted_inforom",
    15: "gpu_is_lost",
    16: "reset_required",
    17: "operating_system",
    18: "lib_rm_version_mismatch",
    19: "in_use",
    20: "memory",
    21: "no_data",
    22: "vgpu_ecc_not_supported",
    23: "insufficient_resources",
    24: "freq_not_supported",
    25: "argument_version_mismatch",
    26: "deprecated",
    27: "not_ready",
    28: "gpu_not_found",
    29: "invalid_state",
    30: "reset_type_not_supported",
    999: "unknown",
}
"""``nvmlReturn_t`` (nvml.h of nvidia-nvml-dev 13.5): the NVML_ERROR_ name in lower case."""

LOST_CODES = frozenset({"gpu_is_lost", "reset_required", "gpu_not_found"})
"""The GPU answers no more: it fell off the bus, or must be reset before it can be used again."""

LIBRARY_MISMATCH = "library_mismatch"
"""Of the binding itself: ``NVMLLibraryMismatchError``, which is not an ``NVMLError``."""

REMEDIES: dict[str, str] = {
    "library_not_found": "install the NVIDIA driver, or run without the nvml backend",
    "driver_not_loaded": "load the NVIDIA kernel module; nvidia-smi must work",
    "lib_rm_version_mismatch": "the driver was updated under a running kernel module: reboot or reload it",
    "no_permission": "give the user access to /dev/nvidia*",
    "gpu_not_found": "run without the nvml backend, or make a GPU visible to this machine",
}

MIG_PARENT = "power, energy, clocks, throttling and temperatures are those of the whole GPU: NVML has none of a slice"

THERMAL_FIELD_IDS = (269, 270)
"""SW and HW thermal slowdown, ns, in nvml.h from 13.1 on."""
THERMAL_FIELDS_SINCE_DRIVER = (580, 126)
"""Driver branch release from which ``THERMAL_FIELD_IDS`` mean that.

nvidia-ml-py 13.580.65 gives these two counters the ids 251 and 252, and 269 and 270 to power smoothing;
13.580.126 and later give them 269 and 270. An older driver answers the newer ids with another quantity.
"""


def code_name(code: int) -> str:
    """Return the stable name of an ``nvmlReturn_t``; ``error_<n>`` for one that a newer driver invented."""
    return RETURN_CODES.get(code, f"error_{code}")


def unavailable(what: str, code: str) -> NotAvailableError:
    """Return the error for a driver that does not answer, with what to do about this code."""
    return NotAvailableError(f"{what}: {code}", remedy=REMEDIES.get(code))


def driver_release(version: str | None) -> tuple[int, int]:
    """Return branch and release of a driver version, ``(580, 159)`` for ``580.159.04``; zeros when unreadable."""
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


def thermal_fields_usable(version: str | None, binding_ids: tuple[int, int]) -> bool:
    """Return whether binding and driver mean the thermal slowdown counters by the same field ids."""
    return binding_ids == THERMAL_FIELD_IDS and driver_release(version) >= THERMAL_FIELDS_SINCE_DRIVER


def dram_peak_gb_s(max_mem_clock_mhz: int, bus_width_bits: int) -> float:
    """Return the theoretical DRAM bandwidth in GB/s: two transfers per clock of the bus's width.

    An H200 reads 3201 MHz and 6016 bits, which gives 4814 GB/s; its datasheet says 4800.
    """
    return 2 * max_mem_clock_mhz * bus_width_bits / 8 / 1000


def visible_gpus(selection: str | None, uuids: tuple[str, ...]) -> tuple[int, ...]:
    """Return the NVML indices that ``CUDA_VISIBLE_DEVICES`` selects, so that a neighbour's GPU is not sampled.

    Numbers are taken as NVML's (PCI bus order), which is CUDA's order on hosts with equal GPUs. As in CUDA the
    list ends at the first entry that names no GPU. All GPUs when the variable is unset or names MIG slices.

    Args:
        selection: Value of the variable; ``None`` when unset.
        uuids: UUID of each GPU in NVML's order.
    """
    everything = tuple(range(len(uuids)))
    if selection is None or "MIG-" in selection:
        return everything
    chosen: list[int] = []
    for entry in (part.strip() for part in selection.split(",")):
        if entry.isdecimal():
            matches = [index for index in everything if index == int(entry)]
        else:
            matches = [index for index, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen.append(matches[0])
    return tuple(chosen)
