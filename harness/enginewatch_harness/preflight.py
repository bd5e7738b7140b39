"""Is this machine fit to measure? Refusals before a session, validity reasons before a run."""

from __future__ import annotations

import time

import psutil

from enginewatch_db.bundle import MIN_FREE_MIB, free_mib
from enginewatch_db.errors import UnfitError
from enginewatch_db.validity import Reason
from enginewatch_db.workspace import Workspace

MIN_MEMORY_MIB = 512
BUSY_CORES_LIMIT = 0.5
"""More foreign work than this before a run disturbs it (half a core)."""

WATCH_S = 0.1


def check_host(workspace: Workspace) -> None:
    """Refuse a session that this machine cannot finish.

    Raises:
        UnfitError: Less than 64 MiB of disk or 512 MiB of memory is free.
    """
    disk_mib = free_mib(workspace.root)
    if disk_mib < MIN_FREE_MIB:
        raise UnfitError(
            f"{disk_mib:.0f} MiB are free in {workspace.root}, a session needs {MIN_FREE_MIB} MiB",
            remedy="free some space, or choose another folder with --store",
        )
    memory_mib = psutil.virtual_memory().available / 2**20
    if memory_mib < MIN_MEMORY_MIB:
        raise UnfitError(f"{memory_mib:.0f} MiB of memory are free, a session needs {MIN_MEMORY_MIB} MiB")


def busy_cores() -> float:
    """Return how many cores were busy over the last ``WATCH_S`` seconds, ourselves included (we only wait)."""
    before, started = psutil.cpu_times(), time.monotonic()
    time.sleep(WATCH_S)
    after, elapsed_s = psutil.cpu_times(), time.monotonic() - started
    idle_s = (after.idle + getattr(after, "iowait", 0.0)) - (before.idle + getattr(before, "iowait", 0.0))
    cores = psutil.cpu_count() or 1
    return max(0.0, cores - idle_s / elapsed_s)


def check_quiet() -> tuple[Reason, ...]:
    """Return ``host_busy`` when something else uses the processor right before a run."""
    cores = busy_cores()
    if cores <= BUSY_CORES_LIMIT:
        return ()
    return (Reason(code="host_busy", detail=f"{cores:.1f} cores were busy before the run"),)
