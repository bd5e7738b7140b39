"""Which GPU a case runs on, and which cases this host leaves for another one. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enginewatch_db.errors import UnfitError

if TYPE_CHECKING:
    from enginewatch_collector.backends.nvml_devices import GpuDevice
    from enginewatch_harness.matrix import Case

ALL = "all"
"""In a plan's ``gpus``: every product that the host has."""

DRIVER_NAMES = (
    "Tesla V100-SXM2-32GB",
    "Tesla T4",
    "NVIDIA A10",
    "NVIDIA A10G",
    "NVIDIA A30",
    "NVIDIA A40",
    "NVIDIA A100-PCIE-40GB",
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA A100 80GB PCIe",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA L4",
    "NVIDIA L40",
    "NVIDIA L40S",
    "NVIDIA H20",
    "NVIDIA H100 PCIe",
    "NVIDIA H100 80GB HBM3",
    "NVIDIA H100 NVL",
    "NVIDIA H200",
    "NVIDIA H200 NVL",
    "NVIDIA GH200 480GB",
    "NVIDIA B200",
    "NVIDIA GB200",
    "NVIDIA B300",
    "NVIDIA GB300",
    "NVIDIA GeForce RTX 3090",
    "NVIDIA GeForce RTX 4090",
    "NVIDIA GeForce RTX 5090",
)
"""Products as the driver writes them, for hints alone: nothing is refused for not being here."""

_UUID = re.compile(r"(gpu|mig)-[0-9a-f]", re.IGNORECASE)
_SLUG_UUID_CHARACTERS = 12
"""``GPU-1a2b3c4d``: as much of a UUID as tells the devices of a host apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The GPUs that a session may use here.

    Attributes:
        devices: GPUs and MIG slices that ``CUDA_VISIBLE_DEVICES`` leaves, in NVML's order.
        driver_why: Why the driver does not answer; ``None`` where it does.
    """

    devices: tuple[GpuDevice, ...] = ()
    driver_why: str | None = None

    @property
    def products(self) -> tuple[str, ...]:
        """Product names, each once, in the devices' order."""
        return tuple(dict.fromkeys(device.name for device in self.devices))


def is_uuid(name: str) -> bool:
    """Return whether a plan's name of a GPU is a UUID, or the beginning of one."""
    return _UUID.match(name) is not None


def same_product(one: str, other: str) -> bool:
    """Return whether two names mean the same GPU: case, spaces and NVIDIA's name in front do not matter."""
    return _plain(one) == _plain(other)


def slug(name: str) -> str:
    """Return the short form of a GPU's name for keys of cases: ``h200``, ``h200-mig-1g.18gb``, ``gpu-1a2b3c4d``."""
    if is_uuid(name):
        return name.lower()[:_SLUG_UUID_CHARACTERS]
    return re.sub(r"[^a-z0-9.]+", "-", _plain(name)).strip("-")


def _plain(name: str) -> str:
    return " ".join(name.lower().split()).removeprefix("nvidia ")


def matching(name: str, devices: Sequence[GpuDevice]) -> tuple[GpuDevice, ...]:
    """Return the devices that a product name or a UUID (its beginning is enough) means."""
    if name.lower() == ALL:
        return tuple(devices)
    if is_uuid(name):
        return tuple(device for device in devices if device.uuid.lower().startswith(name.lower()))
    return tuple(device for device in devices if same_product(device.name, name))


def pick(wanted: str, host: Host) -> GpuDevice:
    """Return the one device that ``device`` of the plan or ``--device`` names.

    Raises:
        UnfitError: It is not here, or more than one device fits.
    """
    found = matching(wanted, host.devices)
    if len(found) == 1:
        return found[0]
    here = ", ".join(f"{device.uuid} ({device.name})" for device in host.devices) or host.driver_why or "no GPU"
    what = "is none of this host's" if not found else f"fits {len(found)} of this host's"
    raise UnfitError(f"device {wanted!r} {what} GPUs: {here}", remedy="give the UUID of one of them")


def place(cases: Sequence[Case], host: Host, device: str | None = None) -> tuple[Case, ...]:
    """Return the cases, each bound to a device of this host, or with the reason why it is left for another.

    Of several equal GPUs the first one is taken, always: repeats, baseline and candidate then share it. Cases that
    need no GPU stay as they are, and so does one that names none where there is none: its tool says what it lacks.

    Args:
        cases: The plan's cases.
        host: What is here.
        device: The device that the user asks for; ``None``: choose.

    Raises:
        UnfitError: ``device`` is not here, or ambiguous.
    """
    if not any(case.on_gpu for case in cases):
        return tuple(cases)
    usable = host.devices if device is None else (pick(device, host),)
    return tuple(_placed(case, host, usable) if case.on_gpu else case for case in cases)


def _placed(case: Case, host: Host, usable: Sequence[GpuDevice]) -> Case:
    found = matching(case.gpu, usable) if case.gpu is not None else tuple(usable)
    if found:
        return replace(case, bound=found[0])
    if case.gpu is None:
        return case
    return replace(case, elsewhere=_why(case.gpu, host, usable))


def runnable(cases: Sequence[Case], *, all_of_them: bool = False) -> tuple[tuple[Case, ...], dict[str, str]]:
    """Return the cases that can run here, and why each of the others is left for another host.

    Args:
        cases: The placed cases.
        all_of_them: They belong to a session that began here, so each of them must run here.

    Raises:
        UnfitError: There are cases, and none of them can run here; or not all, where all must.
    """
    left = {case.key: case.elsewhere for case in cases if case.elsewhere is not None}
    if left and all_of_them:
        raise UnfitError(
            f"the session began with GPUs that are not here now: {grouped(left)}",
            remedy="make them visible again, or start a new session without --resume",
        )
    if left and len(left) == len(cases):
        raise UnfitError(
            f"this host can run none of the plan's {len(left)} cases: {grouped(left)}",
            remedy="run it on a host that has the GPU and its driver, or correct gpus in the plan; "
            "`enginewatch doctor` lists this host's",
        )
    return tuple(case for case in cases if case.elsewhere is None), left


def the_device(cases: Sequence[Case]) -> str | None:
    """Return the UUID of the one GPU that all cases on GPUs are bound to; ``None`` where there are several or none."""
    uuids = {case.bound.uuid for case in cases if case.bound is not None}
    return uuids.pop() if len(uuids) == 1 else None


def left_line(left: Mapping[str, str]) -> str:
    """Return the line that names the cases which this host leaves for another."""
    return f"left for another host: {grouped(left)}"


def grouped(left: Mapping[str, str]) -> str:
    """Return cases and why they are left, each reason once."""
    reasons: dict[str, list[str]] = {}
    for key, why in left.items():
        reasons.setdefault(why, []).append(key)
    return "; ".join(f"{', '.join(keys)} ({why})" for why, keys in reasons.items())


def _why(wanted: str, host: Host, usable: Sequence[GpuDevice]) -> str:
    needs = "it needs a GPU" if wanted.lower() == ALL else f"it needs {wanted}"
    if host.driver_why is not None:
        return f"{needs}, and {host.driver_why}"
    if len(usable) < len(host.devices) and matching(wanted, host.devices):
        return f"{needs}, and this session uses {usable[0].uuid} ({usable[0].name})"
    here = f"this host has {', '.join(host.products)}" if host.devices else "this host has no GPU"
    return f"{needs}, and {here}{hint(wanted, host.products)}"


def hint(wanted: str, products: Sequence[str]) -> str:
    """Return ``; did you mean ...?`` for a name that is almost one of this host's or of ``DRIVER_NAMES``.

    A name that nobody knows may be another host's GPU: it is no error.
    """
    asked = _plain(wanted)
    # The profiles of slices are as many as NVIDIA's products: only this host's are known.
    names = products if " mig " in asked else (*DRIVER_NAMES, *products)
    known = {_plain(name): name for name in names}
    if is_uuid(wanted) or asked == ALL or asked in known:
        return ""
    near = difflib.get_close_matches(asked, known, n=1, cutoff=0.8)
    return f"; did you mean {known[near[0]]!r}?" if near else ""


def environment(uuid: str | None) -> dict[str, str]:
    """Return what makes a device number 0 of a process, and its only one; empty where there is none to bind.

    ``CUDA_DEVICE_ORDER`` is for tools that count by themselves: their number is then NVML's.
    """
    return {} if uuid is None else {"CUDA_VISIBLE_DEVICES": uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
