"""Whether an engine runs on this machine: GPU, compute capability and version, as it was built for them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enginewatch_db.model import EngineRecord, Json
from enginewatch_harness.gpu_choice import same_product

AMPERE = (8, 0)
"""Least compute capability of the GPUs that an engine with hardware compatibility ``ampere+`` runs on."""
COMPATIBLE = (8, 6)
"""First version of TensorRT that builds, and runs, version-compatible engines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What this machine has.

    Attributes:
        backend: The backend of the engine.
        version: Its tool's version; ``None`` where it is not here.
        devices: Product names, with their compute capability where that is known.
    """

    backend: str
    version: str | None
    devices: dict[str, str | None]


def misfits(record: EngineRecord, here: Here) -> tuple[str, ...]:
    """Return why an engine does not fit this machine, naming both; empty where it fits.

    An engine is tied to the GPU product and the version that it was built with, unless it was built to be compatible
    with other hardware or later versions (TensorRT's documentation, "Engine compatibility", "Hardware compatibility"
    and "Version compatibility"). What is not known of the engine is not compared: see ``unknown``.
    """
    options = key_options(record)
    found = []
    if record.device and not any(_fits_device(record, options, *device) for device in here.devices.items()):
        found.append(_other_device(record, options, here))
    if record.tool_version and not _fits_version(record.tool_version, here.version, options):
        have = f"{here.backend} {here.version}" if here.version else f"no {here.backend}"
        later = " (for later versions too)" if options.get("version_compatible") else ""
        found.append(f"it was built by {here.backend} {record.tool_version}{later}, and here is {have}")
    return tuple(found)


def unknown(record: EngineRecord) -> tuple[str, ...]:
    """Return what could not be checked, because nobody wrote down what the engine was built with."""
    facts = {"GPU": record.device, "version": record.tool_version}
    return tuple(
        f"it is not known which {name} it was built for, so whether it fits was not checked"
        for name, value in facts.items()
        if not value
    )


def key_options(record: EngineRecord) -> Json:
    """Return the options that the engine was built with."""
    options = record.details.get("key_options")
    return options if isinstance(options, dict) else {}


def _fits_device(record: EngineRecord, options: Json, name: str, capability: str | None) -> bool:
    if name == record.device or same_product(str(record.device), name):
        return None in (capability, record.compute_capability) or capability == record.compute_capability
    if capability is None:
        return False
    if options.get("hardware_compatibility") == "ampere+":
        return _release(capability) >= AMPERE
    if options.get("hardware_compatibility") == "sameComputeCapability":
        return capability == record.compute_capability
    return capability in (options.get("compute_capabilities") or ())


def _other_device(record: EngineRecord, options: Json, here: Here) -> str:
    alike = next((value for name, value in here.devices.items() if same_product(str(record.device), name)), None)
    if alike is not None:
        return f"it was built for compute capability {record.compute_capability}, and here is {alike}"
    capability = f" (compute capability {record.compute_capability})" if record.compute_capability else ""
    more = f" and {reach}" if (reach := others(record)) else ""
    have = ", ".join(f"{name} ({value})" if value else name for name, value in here.devices.items()) or "no GPU"
    return f"it was built for {record.device}{capability}{more}, and here is {have}"


def others(record: EngineRecord) -> str | None:
    """Return in words which other GPUs the engine was built for; ``None`` where for none."""
    options = key_options(record)
    level, capabilities = options.get("hardware_compatibility"), options.get("compute_capabilities")
    if level == "ampere+":
        return "every GPU from compute capability 8.0"
    if level == "sameComputeCapability":
        return "every GPU of that compute capability"
    return f"compute capabilities {', '.join(capabilities)}" if capabilities else None


def _fits_version(built: str, have: str | None, options: Json) -> bool:
    if have is None or built == have:
        return built == have
    if not options.get("version_compatible"):
        return False
    return COMPATIBLE <= _release(built) <= _release(have)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0])[:4])
