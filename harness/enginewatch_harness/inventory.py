"""What this machine has: tools, devices, libraries, and the command that adds what is missing."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from enginewatch_ci.phrasing import count
from enginewatch_db.bundle import MIN_FREE_MIB, free_mib
from enginewatch_db.errors import EnginewatchError, NotAvailableError
from enginewatch_db.workspace import Workspace
from enginewatch_harness import provenance
from enginewatch_harness.gpu_choice import Host, left_line
from enginewatch_harness.gpu_devices import host_gpus
from enginewatch_harness.nsys.find import find_nsys
from enginewatch_harness.plan_file import load_plan
from enginewatch_harness.preflight import BUSY_CORES_LIMIT, busy_cores
from enginewatch_harness.registry import availability, backend_names
from enginewatch_harness.session_request import SessionRequest, plan_cases

if TYPE_CHECKING:
    from enginewatch_collector.backends.nvml_devices import GpuDevice


class State(StrEnum):
    """How an item of the inventory stands."""

    OK = "ok"
    MISSING = "missing"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that enginewatch can use.

    Attributes:
        name: What it is.
        state: Whether it is there and fit.
        found: Version, device or value; or why it is missing.
        remedy: The command or step that adds it; ``None`` when nothing is to do.
        needed: Whether the CPU default cannot work without it.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None
    needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi reports it."""

    name: str
    driver: str
    memory_mib: str
    persistence: str
    sm_clock_max_mhz: str


def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs; empty where there is no driver."""
    query = "name,driver_version,memory.total,persistence_mode,clocks.max.sm"
    text = provenance.tool_output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])
    rows = [[part.strip() for part in line.split(",")] for line in (text or "").splitlines()]
    return tuple(
        Gpu(name=row[0], driver=row[1], memory_mib=row[2], persistence=row[3], sm_clock_max_mhz=row[4])
        for row in rows
        if len(row) == 5
    )


def take(workspace: Workspace) -> tuple[Item, ...]:
    """Return the whole inventory of this machine."""
    found = gpus()
    return (
        *_gpu_items(found, host_gpus()),
        *(_backend_item(name) for name in backend_names()),
        _providers(),
        _package("tensorrt", "pip install 'enginewatch[tensorrt]'"),
        _package("tensorrt_llm", "pip install 'enginewatch[trtllm]' (Linux with an NVIDIA GPU; a container is easier)"),
        _nsys(),
        _package(
            "cupti-python",
            "pip install 'enginewatch[gpu-diagnostics]': kernels of Python backends where nsys is absent",
        ),
        _package("duckdb", "pip install duckdb", needed=True),
        _clocks(found),
        _disk(workspace),
        _memory(),
        _quiet(),
        _permissions(workspace),
    )


def _gpu_items(found: tuple[Gpu, ...], host: Host) -> list[Item]:
    if host.devices:
        driver = f", driver {found[0].driver}" if found else ""
        return [_gpu_item(device, driver) for device in host.devices]
    if found:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = host.driver_why or f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU, or a GPU in MIG mode has no slice"
        return [
            Item(
                name="GPU",
                state=State.WARNING,
                found=f"{', '.join(gpu.name for gpu in found)}: {why}",
                remedy="correct CUDA_VISIBLE_DEVICES or the driver; nothing can be bound to a GPU now",
            )
        ]
    why = host.driver_why or "the driver lists no GPU"
    return [
        Item(
            name="GPU",
            state=State.MISSING,
            found=f"{why}; the CPU default is used",
            remedy="install the NVIDIA driver, or go on: the CPU default is complete",
        )
    ]


def _gpu_item(device: GpuDevice, driver: str) -> Item:
    part = f" MIG {device.mig_profile}" if device.mig_profile else ""
    memory = "" if device.memory_mib is None else f", {device.memory_mib} MiB"
    compute = "" if device.compute_capability is None else f", compute {device.compute_capability}"
    return Item(
        name=f"GPU {device.index}{part}",
        state=State.OK,
        found=f"{device.name}, {device.uuid}{memory}{compute}{driver}",
    )


def plan_item(path: Path) -> Item:
    """Return which cases of a plan would run here, on which GPU, and which are left for another host."""
    try:
        plan, sha256 = load_plan(path)
        cases = plan_cases(SessionRequest(plan=plan, plan_path=path, plan_sha256=sha256))
    except EnginewatchError as error:
        return Item(name=f"plan {path}", state=State.WARNING, found=error.message, remedy=error.remedy)
    left = {case.key: case.elsewhere for case in cases if case.elsewhere is not None}
    where = Counter(f"on {case.bound.name} {case.bound.uuid}" if case.bound else "here" for case in cases)
    where["here"] -= len(left)
    told = "; ".join(f"{count(number, 'case')} {place}" for place, number in where.items() if number)
    return Item(
        name=f"plan {path}",
        state=State.WARNING if left else State.OK,
        found="; ".join(part for part in (told, left_line(left) if left else "") if part),
        remedy="run it on a host that has these GPUs as well" if left else None,
    )


def _backend_item(name: str) -> Item:
    state = availability(name)
    needed = name in ("onnxruntime", "llamacpp")
    if not state.available:
        return Item(
            name=f"backend {name}", state=State.MISSING, found=str(state.why), remedy=state.remedy, needed=needed
        )
    what = ", ".join(state.precisions)
    return Item(
        name=f"backend {name}", state=State.OK, found=": ".join(filter(None, (state.version, what))), needed=needed
    )


def _providers() -> Item:
    if importlib.util.find_spec("onnxruntime") is None:
        return Item(
            name="onnxruntime providers", state=State.MISSING, found="not installed", remedy="pip install onnxruntime"
        )
    import onnxruntime

    names = [provider.removesuffix("ExecutionProvider") for provider in onnxruntime.get_available_providers()]
    return Item(name="onnxruntime providers", state=State.OK, found=", ".join(names), needed=True)


def _package(name: str, remedy: str, *, needed: bool = False) -> Item:
    try:
        return Item(name=name, state=State.OK, found=metadata.version(name), needed=needed)
    except metadata.PackageNotFoundError:
        return Item(name=name, state=State.MISSING, found="not installed", remedy=remedy, needed=needed)


def _nsys() -> Item:
    try:
        found = find_nsys()
    except NotAvailableError as error:
        return Item(name="nsys", state=State.MISSING, found=error.message, remedy=error.remedy)
    return Item(name="nsys", state=State.OK, found=f"{found.dotted} ({found.path})")


def _clocks(found: tuple[Gpu, ...]) -> Item:
    for gpu in found:
        if gpu.persistence.lower() != "enabled":
            return Item(
                name="clocks",
                state=State.WARNING,
                found=f"{gpu.name}: persistence mode is {gpu.persistence}",
                remedy="sudo nvidia-smi --persistence-mode=1",
            )
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor.is_file():
        return Item(name="clocks", state=State.OK, found="CPU frequency is not under our control (virtual machine)")
    value = governor.read_text(encoding="utf-8").strip()
    if value == "performance":
        return Item(name="clocks", state=State.OK, found="CPU governor is performance")
    return Item(
        name="clocks",
        state=State.WARNING,
        found=f"CPU governor is {value}: latencies will vary more",
        remedy="sudo cpupower frequency-set --governor performance",
    )


def _disk(workspace: Workspace) -> Item:
    free = free_mib(workspace.root)
    fits = free >= 10 * MIN_FREE_MIB
    return Item(
        name="free disk",
        state=State.OK if fits else State.WARNING,
        found=f"{free / 1024:.1f} GiB for {workspace.root}",
        remedy=None if fits else "free some space, or choose another folder with --store",
        needed=True,
    )


def _memory() -> Item:
    memory = psutil.virtual_memory()
    return Item(
        name="memory",
        state=State.OK,
        found=f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available, "
        f"{len(os.sched_getaffinity(0))} cores",
        needed=True,
    )


def _quiet() -> Item:
    cores = busy_cores()
    quiet = cores <= BUSY_CORES_LIMIT
    return Item(
        name="quiet host",
        state=State.OK if quiet else State.WARNING,
        found=f"{cores:.1f} cores busy",
        remedy=None if quiet else "stop other work while measuring",
    )


def _permissions(workspace: Workspace) -> Item:
    folder = next(path for path in (workspace.root, *workspace.root.parents) if path.exists())
    if os.access(folder, os.W_OK | os.X_OK):
        return Item(name="permissions", state=State.OK, found=f"{folder} can be written", needed=True)
    return Item(
        name="permissions",
        state=State.MISSING,
        found=f"{folder} cannot be written",
        remedy="choose another folder with --store",
        needed=True,
    )
