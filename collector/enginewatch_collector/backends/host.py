"""The host: CPU utilisation per core, frequency, memory, load, steal. The only file that imports psutil."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from enginewatch_collector.backends.base import Reading, Values
from enginewatch_collector.quality import QualityLog
from enginewatch_db.model import Json

_MIB = 1024 * 1024


class CoreTimes(NamedTuple):
    """Seconds that a core has spent since boot."""

    busy: float
    idle: float
    steal: float


class CpuUsage(NamedTuple):
    """Shares of the time between two reads, in percent."""

    cores: list[float]
    mean: float
    steal: float


def cpu_usage(before: Sequence[CoreTimes], after: Sequence[CoreTimes]) -> CpuUsage | None:
    """Return the utilisation between two reads of the same cores.

    Busy is all time but idle and iowait, as in ``psutil.cpu_percent``; it includes steal, since a core that
    the hypervisor took away is not free. ``None`` while the counters (10 ms steps) have not moved on all cores,
    and when the number of cores changed.
    """
    if len(before) != len(after):
        return None
    cores, steal, total = [], 0.0, 0.0
    for old, new in zip(before, after, strict=True):
        busy, idle = max(0.0, new.busy - old.busy), max(0.0, new.idle - old.idle)
        if busy + idle <= 0:
            return None
        cores.append(min(100.0, 100 * busy / (busy + idle)))
        steal += min(max(0.0, new.steal - old.steal), busy)
        total += busy + idle
    return CpuUsage(cores, min(100.0, sum(cores) / len(cores)), min(100.0, 100 * steal / total))


def _core_times() -> list[CoreTimes]:
    times = []
    for core in psutil.cpu_times(percpu=True):
        idle = core.idle + getattr(core, "iowait", 0.0)
        steal = getattr(core, "steal", 0.0)
        # guest and guest_nice are part of user and nice already: they must not be counted twice
        busy = core.user + core.nice + core.system + getattr(core, "irq", 0.0) + getattr(core, "softirq", 0.0) + steal
        times.append(CoreTimes(busy, idle, steal))
    return times


class HostBackend:
    """Samples the host that the collector runs on."""

    name = "host"

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._log = QualityLog()
        self._before: list[CoreTimes] = []
        self._facts: Json = {}

    def open(self, log: QualityLog) -> None:
        """Take the first reading of the CPU counters, and the facts of the host."""
        self._log = log
        self._facts = {
            "device": "host",
            "source": self.name,
            "name": _cpu_model(Path("/proc/cpuinfo")) or platform.processor() or platform.machine(),
            "logical_cores": psutil.cpu_count(),
            "physical_cores": psutil.cpu_count(logical=False),
            "memory_mib": psutil.virtual_memory().total // _MIB,
            "platform": platform.platform(),
        }
        self._before = _core_times()

    def devices(self) -> tuple[Json, ...]:
        """Return the host's name, cores and memory."""
        return (self._facts,)

    def read_fast(self) -> list[Reading]:
        """Read the CPU counters: one file, whatever the number of cores."""
        t_before = self._clock()
        after = _core_times()
        t_after = self._clock()
        usage = cpu_usage(self._before, after)
        if usage is None:
            if len(after) != len(self._before):
                self._log.event("cores_changed", before=len(self._before), after=len(after))
                self._before = after
            return []
        self._before = after
        values: Values = {
            "cpu_util_pct": usage.mean,
            "cpu_util_core_pct": usage.cores,
            "cpu_steal_pct": usage.steal,
        }
        return [self._reading(t_before, t_after, values)]

    def read_slow(self) -> list[Reading]:
        """Read frequency (one file per core on some kernels), memory and load."""
        t_before = self._clock()
        values: Values = {}
        try:
            memory = psutil.virtual_memory()
            values["host_mem_used_mib"] = (memory.total - memory.available) // _MIB
            values["host_load_1m"] = os.getloadavg()[0]
        except OSError as error:
            self._log.error("host_mem_used_mib", type(error).__name__, "host")
        mhz = self._frequency_mhz()
        if mhz is not None:
            values["cpu_freq_mhz"] = mhz
        return [self._reading(t_before, self._clock(), values)]

    def close(self) -> None:
        """Nothing is held open."""

    def _reading(self, t_before: int, t_after: int, values: Values) -> Reading:
        return Reading(source=self.name, device="host", t_before_ns=t_before, t_after_ns=t_after, values=values)

    def _frequency_mhz(self) -> float | None:
        # psutil: None or NotImplementedError where the kernel tells no frequency (many VMs and containers)
        try:
            frequency = psutil.cpu_freq()
        except (OSError, NotImplementedError, RuntimeError):
            frequency = None
        if frequency is None or not frequency.current:
            self._log.error("cpu_freq_mhz", "not_supported", "host")
            return None
        return float(frequency.current)


def _cpu_model(cpuinfo: Path) -> str | None:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
