"""Whose work is on the GPU: relates a process id to the harness, from ``/proc``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enginewatch_db.model import Json

_MIB = 1024 * 1024
PROC = Path("/proc")


def relation(pid: int, owner_pid: int, *, proc: Path = PROC) -> str:
    """Say whether a process is ``own`` (the harness or below it), ``foreign``, or ``unresolved``.

    Unresolved means that this process table does not have it: NVML counts in the host's process ids, which a
    container does not see, or the process has just ended. Nothing is concluded from such a process.
    """
    current = pid
    for _ in range(1000):
        if current == owner_pid:
            return "own"
        parent = _parent(current, proc)
        if parent is None:
            return "unresolved" if current == pid else "foreign"
        if parent <= 0:
            return "foreign"
        current = parent
    return "unresolved"


def describe(pid: int, used_mib: int | None, owner_pid: int, *, proc: Path = PROC) -> Json:
    """Return what is known of a process on a GPU.

    Args:
        pid: Its id as NVML gives it.
        used_mib: GPU memory that it holds; ``None`` where the driver does not tell.
        owner_pid: The harness.
        proc: Where the process table is mounted.
    """
    relation_ = relation(pid, owner_pid, proc=proc)
    return {"pid": pid, "name": process_name(pid, proc=proc), "used_mib": used_mib, "relation": relation_}


def describe_all(found: Sequence[Any], owner_pid: int, instance: int | None) -> list[Json]:
    """Return what is known of NVML's processes; of a MIG slice only those of its GPU instance.

    Args:
        found: What ``nvmlDeviceGetComputeRunningProcesses`` gave.
        owner_pid: The harness.
        instance: Id of the GPU instance; ``None`` for a whole GPU.
    """
    return [
        describe(process.pid, process.usedGpuMemory and process.usedGpuMemory // _MIB, owner_pid)
        for process in found
        if instance is None or process.gpuInstanceId == instance
    ]


def process_name(pid: int, *, proc: Path = PROC) -> str | None:
    """Return the process's name; ``None`` when this process table does not have it."""
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _parent(pid: int, proc: Path) -> int | None:
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # the name in parentheses may itself hold spaces and parentheses: fields are counted from the last one
    fields = text.rpartition(")")[2].split()
    return int(fields[1])
