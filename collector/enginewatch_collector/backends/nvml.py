"""NVIDIA GPUs through NVML. The only file that imports pynvml.

Fast tier: clocks, reasons, utilisation rates, instant power, the power-cap counter (1 to 3 us each) and GPM
(1 to 4 ms). Slow tier: energy (3 to 16 ms), the thermal counters (field 270 takes 0.55 ms), memory,
temperatures. ``nvmlDeviceGetPcieThroughput`` (20 ms) is never called: GPM has PCIe rates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pynvml

from enginewatch_collector.backends import nvml_codes as codes
from enginewatch_collector.backends.base import Reading, Values
from enginewatch_collector.backends.nvml_mig import memory_handle
from enginewatch_collector.backends.processes import describe_all
from enginewatch_collector.quality import QualityLog
from enginewatch_db.model import Json

_MIB = 1024 * 1024

GPM_MIN_SPACING_NS = 100_000_000
"""Closer samples return SUCCESS with zeros and NaN (nvml.h: "greater than 100ms"; measured on an H200)."""
GPM_MAX_WAIT_NS = 5_000_000
"""At 10 Hz jitter brings two ticks a little closer than 100 ms: up to this is waited for. Waits add up, so now and
then a tick has no GPM; the next sample then spans two ticks, and nothing is lost."""

GPM_METRICS: dict[str, int] = {
    "graphics_active_pct": pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL,
    "sm_active_pct": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "sm_occupancy_pct": pynvml.NVML_GPM_METRIC_SM_OCCUPANCY,
    "tensor_active_pct": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "dram_bw_pct_of_peak": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
    "fp32_active_pct": pynvml.NVML_GPM_METRIC_FP32_UTIL,
    "fp16_active_pct": pynvml.NVML_GPM_METRIC_FP16_UTIL,
    "pcie_tx_mib_s": pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
    "pcie_rx_mib_s": pynvml.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
}
_POWER = pynvml.NVML_FI_DEV_POWER_INSTANT
_POWER_CAP = pynvml.NVML_FI_DEV_PERF_POLICY_POWER
_MEMORY_TEMP = pynvml.NVML_FI_DEV_MEMORY_TEMP
_THERMAL_OLD = {"thermal_policy": pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL}
_THERMAL_NEW = {
    "thermal_sw": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
    "thermal_hw": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
}
_VALUE_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}
_STATIC_FACTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "name": ("nvmlDeviceGetName", ()),
    "uuid": ("nvmlDeviceGetUUID", ()),
    "power_limit_mw": ("nvmlDeviceGetEnforcedPowerLimit", ()),
    "max_sm_clock_mhz": ("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_SM,)),
    "max_mem_clock_mhz": ("nvmlDeviceGetMaxClockInfo", (pynvml.NVML_CLOCK_MEM,)),
    "bus_width_bits": ("nvmlDeviceGetMemoryBusWidth", ()),
    "persistence_mode": ("nvmlDeviceGetPersistenceMode", ()),
    "compute_capability": ("nvmlDeviceGetCudaComputeCapability", ()),
    "mig_mode": ("nvmlDeviceGetMigMode", ()),
}


class _GpuLostError(Exception):
    """Ends the reading of one GPU; never leaves this file."""


def ask(function: str, *arguments: Any) -> tuple[Any, str | None]:  # noqa: ANN401 - ctypes objects of the binding
    """Call NVML; return its result, or ``None`` and the name of the error."""
    try:
        return getattr(pynvml, function)(*arguments), None
    except pynvml.NVMLError as error:
        return None, codes.code_name(error.value)
    except pynvml.NVMLLibraryMismatchError:
        return None, codes.LIBRARY_MISMATCH


class _Gpu:
    """One GPU: its handle, its buffers, and what it turned out to support."""

    def __init__(self, index: int, handle: Any, log: QualityLog, instance: int | None) -> None:  # noqa: ANN401
        self.name = f"gpu{index}"
        self.handle = handle
        self.log = log
        self.lost = False
        self.facts: Json = {"device": self.name, "source": NvmlBackend.name}
        self.power_fields: dict[str, int] = {}
        self.thermal_fields: dict[str, int] = {}
        self.reasons_function = "nvmlDeviceGetCurrentClocksEventReasons"
        self.gpm: _Gpm | None = None
        self.instance = instance
        self.memory_handle = memory_handle(ask, handle, instance)

    def call(self, metric: str, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - what NVML returns
        """Call NVML for this GPU; ``None`` when it fails, with the reason in the log."""
        handle = self.memory_handle if function == "nvmlDeviceGetMemoryInfo" else self.handle
        result, code = ask(function, handle, *arguments)
        if code is not None:
            self.failed(metric, code)
        return result

    def failed(self, metric: str, code: str) -> None:
        """Log a failed read; a lost GPU ends the reading."""
        if code in codes.LOST_CODES:
            raise _GpuLostError(code)
        self.log.error(metric, code, self.name)

    def fields(self, names: dict[str, int]) -> dict[str, int | float]:
        """Read a batch of field values; each has a return code of its own."""
        batch, code = ask("nvmlDeviceGetFieldValues", self.handle, list(names.values()))
        values: dict[str, int | float] = {}
        for position, name in enumerate(names):
            error = code or codes.code_name(batch[position].nvmlReturn)
            if error != "success":
                self.failed(name, error)
            else:
                values[name] = getattr(batch[position].value, _VALUE_MEMBERS[batch[position].valueType])
        return values


class _Gpm:
    """Activity of the hardware units between two samples, which are allocated once and swapped."""

    def __init__(self) -> None:
        self._samples = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
        self._taken_ns: int | None = None
        self._request = pynvml.c_nvmlGpmMetricsGet_t()
        self._request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        self._request.numMetrics = len(GPM_METRICS)
        for slot, metric_id in zip(self._request.metrics, GPM_METRICS.values(), strict=False):
            slot.metricId = metric_id

    def missing_ns(self, now_ns: int) -> int:
        """Return how long it is until a sample may be taken."""
        return 0 if self._taken_ns is None else max(0, self._taken_ns + GPM_MIN_SPACING_NS - now_ns)

    def sample(self, gpu: _Gpu, clock: Callable[[], int]) -> bool:
        """Take a sample if it may be; return whether there is a new pair to compare."""
        if self.missing_ns(clock()) > 0:
            return False
        older, newer = self._samples
        # a GPU in MIG mode has no sample of its own, its GPU instances have
        which = ("nvmlGpmSampleGet",) if gpu.instance is None else ("nvmlGpmMigSampleGet", gpu.instance)
        if gpu.call("gpm", *which, newer) is None:
            return False
        had_one, self._taken_ns = self._taken_ns is not None, clock()
        self._samples = [newer, older]
        return had_one

    def metrics(self, gpu: _Gpu) -> Values:
        """Return the metrics between the last two samples."""
        self._request.sample1, self._request.sample2 = self._samples[1], self._samples[0]
        _, code = ask("nvmlGpmMetricsGet", self._request)
        if code is not None:
            gpu.failed("gpm", code)
            return {}
        # the binding checks only the call, not each metric's own return code; NaN with a success code is left out,
        # and counted, by the sampler
        values: Values = {}
        for name, slot in zip(GPM_METRICS, self._request.metrics, strict=False):
            if slot.nvmlReturn != pynvml.NVML_SUCCESS:
                gpu.failed(name, codes.code_name(slot.nvmlReturn))
            else:
                values[name] = slot.value
        return values

    def free(self) -> None:
        """Free both samples; NVML does not do it by itself."""
        for sample in self._samples:
            ask("nvmlGpmSampleFree", sample)


class NvmlBackend:
    """Samples the GPUs of this machine that ``CUDA_VISIBLE_DEVICES`` leaves visible.

    Args:
        owner_pid: The harness: compute processes that do not descend from it are foreign.
        gpu_uuid: Sample this GPU alone, whatever the environment says; ``None``: all that are visible.
        gpu_instance: The MIG slice of that GPU whose activity and processes count.
        clock: Monotonic clock in ns.
        sleep: Waits for seconds, for the spacing of GPM samples.
    """

    name = "nvml"

    def __init__(
        self,
        *,
        owner_pid: int,
        gpu_uuid: str | None = None,
        gpu_instance: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._owner_pid = owner_pid
        self._gpu_uuid, self._instance = gpu_uuid, gpu_instance
        self._clock = clock
        self._sleep = sleep
        self._gpus: list[_Gpu] = []
        self._open = False

    def open(self, log: QualityLog) -> None:
        """Load NVML, find the GPUs, probe what each supports.

        Raises:
            NotAvailableError: No library, no driver, or no GPU.
        """
        try:
            pynvml.nvmlInit()
            self._open = True
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            uuids = tuple(str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles)
        except pynvml.NVMLError as error:
            self.close()
            raise codes.unavailable("NVML finds no GPU to sample", codes.code_name(error.value)) from error
        except pynvml.NVMLLibraryMismatchError as error:
            self.close()
            raise codes.unavailable("NVML finds no GPU to sample", codes.LIBRARY_MISMATCH) from error
        chosen = codes.visible_gpus(self._gpu_uuid or os.environ.get("CUDA_VISIBLE_DEVICES"), uuids)
        if not chosen:
            self.close()
            raise codes.unavailable("NVML finds no GPU to sample", "gpu_not_found")
        for index in chosen:
            gpu = _Gpu(index, handles[index], log, self._instance)
            self._gpus.append(gpu)
            self._guard(gpu, lambda gpu: _prepare(gpu, driver))
            self._note_processes(gpu, "start")

    def devices(self) -> tuple[Json, ...]:
        """Return the facts of each GPU; ``processes_end`` is there after ``close``."""
        return tuple(gpu.facts for gpu in self._gpus)

    def read_fast(self) -> list[Reading]:
        """Read clocks, reasons, rates, power and GPM of each GPU that still answers."""
        readings = []
        for gpu in self._gpus:
            missing_ns = gpu.gpm.missing_ns(self._clock()) if gpu.gpm is not None else 0
            if 0 < missing_ns <= GPM_MAX_WAIT_NS:
                self._sleep(missing_ns / 1e9)
            readings += self._read(gpu, self._fast_values)
        return readings

    def read_slow(self) -> list[Reading]:
        """Read energy, memory, temperatures and thermal counters of each GPU that still answers."""
        return [reading for gpu in self._gpus for reading in self._read(gpu, _slow_values)]

    def close(self) -> None:
        """Note the processes that are there now, free the GPM samples, leave NVML."""
        for gpu in self._gpus:
            self._note_processes(gpu, "end")
            if gpu.gpm is not None:
                gpu.gpm.free()
                gpu.gpm = None
        if self._open:
            self._open = False
            ask("nvmlShutdown")

    def _guard(self, gpu: _Gpu, step: Callable[[_Gpu], Values | None]) -> Values | None:
        if gpu.lost:
            return None
        try:
            return step(gpu)
        except _GpuLostError as lost:
            gpu.lost = True
            gpu.log.event("gpu_lost", device=gpu.name, code=str(lost), t_ns=self._clock())
            return None

    def _read(self, gpu: _Gpu, step: Callable[[_Gpu], Values]) -> list[Reading]:
        t_before = self._clock()
        values = self._guard(gpu, step)
        if values is None:
            return []
        t_after = self._clock()
        return [Reading(source=self.name, device=gpu.name, t_before_ns=t_before, t_after_ns=t_after, values=values)]

    def _fast_values(self, gpu: _Gpu) -> Values:
        # the sample first: what comes before it would be added to the spacing, tick after tick
        has_pair = gpu.gpm is not None and gpu.gpm.sample(gpu, self._clock)
        values = _instant_values(gpu)
        if has_pair and gpu.gpm is not None:
            values |= gpu.gpm.metrics(gpu)
        return values

    def _note_processes(self, gpu: _Gpu, when: str) -> None:
        self._guard(gpu, lambda gpu: _find_processes(gpu, when, self._owner_pid))


def _prepare(gpu: _Gpu, driver: str) -> None:
    """Read the static facts and find out which sources this GPU has."""
    absent: dict[str, str] = {}
    gpu.facts |= {"driver": driver, "absent": absent}
    if gpu.instance is not None:
        gpu.facts["gpu_instance"] = gpu.instance
        gpu.log.event("mig_parent_sampled", device=gpu.name, why=codes.MIG_PARENT)
    for fact, (function, arguments) in _STATIC_FACTS.items():
        gpu.facts[fact], code = ask(function, gpu.handle, *arguments)
        if code is not None:
            absent[fact] = code
    memory = gpu.call("gpu_mem_used_mib", "nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    width, clock = gpu.facts["bus_width_bits"], gpu.facts["max_mem_clock_mhz"]
    gpu.facts["memory_mib"] = memory.total // _MIB if memory else None
    gpu.facts["dram_peak_gb_s"] = round(codes.dram_peak_gb_s(clock, width), 1) if clock and width else None
    _choose_power(gpu)
    _choose_thermal(gpu, driver)
    # drivers before R535 know the call only by its old name
    if ask(gpu.reasons_function, gpu.handle)[1] == "function_not_found":
        gpu.reasons_function = "nvmlDeviceGetCurrentClocksThrottleReasons"
    gpu.gpm = _open_gpm(gpu)
    gpu.facts["gpm"] = gpu.gpm is not None


def _choose_power(gpu: _Gpu) -> None:
    gpu.power_fields = {"power_capped_ns": _POWER_CAP, "power_mw": _POWER}
    # Ampere (but GA100) and newer: nvmlDeviceGetPowerUsage is a mean over one second
    source = "field_186"
    if "power_mw" not in gpu.fields(gpu.power_fields):
        del gpu.power_fields["power_mw"]
        source = "power_usage_1s"
    gpu.facts["power_source"] = source
    gpu.log.label("power_source", source)


def _choose_thermal(gpu: _Gpu, driver: str) -> None:
    candidates = [(_THERMAL_OLD, "field_75")]
    if codes.thermal_fields_usable(driver, (_THERMAL_NEW["thermal_sw"], _THERMAL_NEW["thermal_hw"])):
        candidates.insert(0, (_THERMAL_NEW, "fields_269_270"))
    source = "clock_event_reasons"
    for fields, label in candidates:
        if len(gpu.fields(fields)) == len(fields):
            gpu.thermal_fields, source = fields, label
            break
    gpu.facts["thermal_source"] = source
    gpu.log.label("thermal_source", source)


def _open_gpm(gpu: _Gpu) -> _Gpm | None:
    support = gpu.call("gpm", "nvmlGpmQueryDeviceSupport")
    if support is None:
        return None
    if not support.isSupportedDevice:
        gpu.failed("gpm", "not_supported")
        return None
    try:
        return _Gpm()
    except pynvml.NVMLError as error:
        gpu.failed("gpm", codes.code_name(error.value))
        return None


def _instant_values(gpu: _Gpu) -> Values:
    readings = {
        "sm_clock_mhz": gpu.call("sm_clock_mhz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        "mem_clock_mhz": gpu.call("mem_clock_mhz", "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
        "clock_event_reasons": gpu.call("clock_event_reasons", gpu.reasons_function),
        **gpu.fields(gpu.power_fields),
    }
    if "power_mw" not in gpu.power_fields:
        readings["power_mw"] = gpu.call("power_mw", "nvmlDeviceGetPowerUsage")
    rates = gpu.call("gpu_busy_time_pct", "nvmlDeviceGetUtilizationRates")
    if rates is not None:
        readings |= {"gpu_busy_time_pct": float(rates.gpu), "mem_ctrl_busy_time_pct": float(rates.memory)}
    return {name: value for name, value in readings.items() if value is not None}


def _slow_values(gpu: _Gpu) -> Values:
    values: Values = {}
    memory = gpu.call("gpu_mem_used_mib", "nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    if memory is not None:
        values["gpu_mem_used_mib"] = memory.used // _MIB
    temperature = gpu.call("temp_c", "nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    if temperature is not None:
        values["temp_c"] = temperature
    batch = gpu.fields({"mem_temp_c": _MEMORY_TEMP, **gpu.thermal_fields})
    if "mem_temp_c" in batch:
        values["mem_temp_c"] = batch["mem_temp_c"]
    if gpu.thermal_fields and all(name in batch for name in gpu.thermal_fields):
        values["thermal_throttle_ns"] = sum(int(batch[name]) for name in gpu.thermal_fields)
    energy = gpu.call("energy_mj", "nvmlDeviceGetTotalEnergyConsumption")
    if energy is not None:
        values["energy_mj"] = energy
    return values


def _find_processes(gpu: _Gpu, when: str, owner_pid: int) -> None:
    found = gpu.call("processes", "nvmlDeviceGetComputeRunningProcesses")
    if found is not None:
        gpu.facts[f"processes_{when}"] = processes = describe_all(found, owner_pid, gpu.instance)
        for process in processes:
            if process["relation"] == "foreign":
                gpu.log.event("foreign_process", device=gpu.name, pid=process["pid"], name=process["name"], when=when)
