"""What a trtexec log says about options, device and build. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_db.model import Json
from enginewatch_harness.parse.trtexec_lines import LogLine

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan))"
_DURATION = re.compile(rf"^{_NUMBER}s \(\+ {_NUMBER}ms warm ?up\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringOptions:
    """The options that were in effect, as the tool printed them; ``None`` where it did not.

    The command line must not be trusted for them: TensorRT 11 turned the defaults around.
    """

    cuda_graph: bool | None = None
    spin_wait: bool | None = None
    data_transfers: bool | None = None
    separate_profile: bool | None = None
    profile: bool | None = None
    multithreading: bool | None = None
    streams: int | None = None
    iterations: int | None = None
    duration_s: float | None = None
    warmup_ms: float | None = None
    idle_ms: float | None = None
    sleep_ms: float | None = None
    expose_dma: bool | None = None

    def effective(self) -> Json:
        """Return what is part of a run's identity: the options that change what is measured, absent ones left out.

        Those that every version leaves off by default are told only where they are on.
        """
        chosen = {
            "cuda_graph": self.cuda_graph,
            "spin_wait": self.spin_wait,
            "data_transfers": self.data_transfers,
            "streams": self.streams,
        }
        seldom = {
            "idle_ms": self.idle_ms,
            "sleep_ms": self.sleep_ms,
            "threads": self.multithreading,
            "expose_dma": self.expose_dma,
        }
        told = {name: value for name, value in chosen.items() if value is not None}
        return told | {name: value for name, value in seldom.items() if value}

    def untold(self) -> tuple[str, ...]:
        """Return the attributes that ``effective`` tells of and the log does not."""
        return tuple(name for name in _EFFECTIVE if getattr(self, name) is None)


_EFFECTIVE = (
    "cuda_graph",
    "spin_wait",
    "data_transfers",
    "streams",
    "idle_ms",
    "sleep_ms",
    "multithreading",
    "expose_dma",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The block ``=== Device Information ===``; ``None`` where a version does not print a line."""

    name: str | None = None
    uuid: str | None = None
    compute_capability: str | None = None
    sms: int | None = None
    memory_mib: int | None = None
    memory_bus_bits: int | None = None
    compute_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """What building or loading an engine cost; ``None`` where the log has no such line.

    ``parse_time_s`` is printed after a failed parse as well. Sizes are the tool's own words for the engine.
    ``peak_cpu_mib`` and ``peak_gpu_mib`` are those of TensorRT's allocators; ``process_mib`` is the most that the
    whole process took of host memory, libraries included. A line that occurs twice with two values tells nothing.
    """

    precision: str | None = None
    optimization_level: int | None = None
    parse_time_s: float | None = None
    build_time_s: float | None = None
    generation_time_s: float | None = None
    load_time_s: float | None = None
    deserialize_time_s: float | None = None
    engine_size_mib: float | None = None
    context_memory_mib: float | None = None
    peak_cpu_mib: float | None = None
    peak_gpu_mib: float | None = None
    process_mib: float | None = None
    host_persistent_bytes: int | None = None
    device_persistent_bytes: int | None = None
    scratch_bytes: int | None = None
    activation_bytes: int | None = None
    weights_bytes: int | None = None
    timing_cache: str | None = None
    tactics_skipped: int = 0


def read_options(sections: dict[str, dict[str, str]]) -> MeasuringOptions:
    """Read the effective measuring options from the sections of a log, by names that no two sections share."""
    block = _unique(sections)
    duration = _DURATION.match(block.get("Duration", ""))
    return MeasuringOptions(
        cuda_graph=_switch(block, "CUDA Graph"),
        spin_wait=_switch(block, "Spin-wait"),
        data_transfers=_switch(block, "Data transfers"),
        separate_profile=_switch(block, "Separate profiling"),
        profile=_switch(block, "Profile"),
        multithreading=_switch(block, "Multithreading"),
        # 8.5 and earlier call it by the other name.
        streams=_integer(block, "Inference Streams" if "Inference Streams" in block else "Streams"),
        iterations=_integer(block, "Iterations"),
        duration_s=finite(duration[1]) if duration else None,
        warmup_ms=finite(duration[2]) if duration else None,
        idle_ms=_milliseconds(block, "Idle time"),
        sleep_ms=_milliseconds(block, "Sleep time"),
        expose_dma=_switch(block, "ExposeDMA"),
    )


def _unique(sections: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return key → value of all sections; a key with two values has none."""
    values: dict[str, set[str]] = {}
    for block in sections.values():
        for key, value in block.items():
            values.setdefault(key, set()).add(value)
    return {key: next(iter(found)) for key, found in values.items() if len(found) == 1}


def read_device(sections: dict[str, dict[str, str]]) -> DeviceFacts:
    """Read the device block."""
    block = _unique(sections)
    return DeviceFacts(
        name=block.get("Selected Device"),
        uuid=block.get("Selected Device UUID"),
        compute_capability=block.get("Compute Capability"),
        sms=_integer(block, "SMs"),
        memory_mib=_leading_integer(block, "Device Global Memory"),
        memory_bus_bits=_leading_integer(block, "Memory Bus Width"),
        compute_clock_mhz=_clock(block, "Compute Clock Rate"),
        memory_clock_mhz=_clock(block, "Memory Clock Rate"),
    )


_PARSED = re.compile(rf"^Finished parsing network model\. Parse time: {_NUMBER}$")
_BUILT = re.compile(rf"^Engine built in {_NUMBER} sec\.$")
_GENERATED = re.compile(rf"^Engine generation completed in {_NUMBER} seconds\.$")
_LOADED = re.compile(rf"^Engine loaded in {_NUMBER} sec\.$")
_DESERIALIZED = re.compile(rf"^Engine deserialized in {_NUMBER} sec\.$")
_CREATED_SIZE = re.compile(rf"^Created engine with size: {_NUMBER} MiB$")
_LOADED_SIZE = re.compile(rf"^Loaded engine(?: with)? size: {_NUMBER} MiB$")
_CONTEXT = re.compile(rf"^Created execution context with device memory size: {_NUMBER} MiB$")
_HOST_PERSISTENT = re.compile(r"^Total Host Persistent Memory: (\d+)(?: bytes)?$")
_DEVICE_PERSISTENT = re.compile(r"^Total Device Persistent Memory: (\d+)(?: bytes)?$")
_SCRATCH = re.compile(r"^(?:Total|Max) Scratch Memory: (\d+)(?: bytes)?$")
_ACTIVATION = re.compile(r"^Total Activation Memory: (\d+)(?: bytes)?$")
_WEIGHTS = re.compile(r"^Total Weights Memory: (\d+)(?: bytes)?$")
_PEAK = re.compile(rf"Peak memory usage of TRT CPU/GPU memory allocators: CPU {_NUMBER} MiB, GPU {_NUMBER} MiB$")
_PROCESS = re.compile(rf"^\[MemUsageChange\] Init .*now: CPU {_NUMBER}, GPU {_NUMBER} \(MiB\)$")
"""Lines of TensorRT-managed allocations look alike and count only these."""
_SKIPPED = re.compile(r"Skipping tactic .*insufficient memory")


def read_build(lines: Sequence[LogLine], sections: dict[str, dict[str, str]]) -> BuildFacts:
    """Read what building or loading cost, in whatever order the lines stand."""
    texts = [line.text for line in lines if line.severity != "V" and line.whole]
    options = _unique(sections)
    level = _integer(options, "BuilderOptimizationLevel")
    created = _only(_CREATED_SIZE, texts)
    return BuildFacts(
        precision=options.get("Precision"),
        optimization_level=level if level is not None and level >= 0 else None,  # -1: not set
        parse_time_s=_only(_PARSED, texts),
        build_time_s=_only(_BUILT, texts),
        generation_time_s=_only(_GENERATED, texts),
        load_time_s=_only(_LOADED, texts),
        deserialize_time_s=_only(_DESERIALIZED, texts),
        engine_size_mib=created if created is not None else _only(_LOADED_SIZE, texts),
        context_memory_mib=_only(_CONTEXT, texts),
        peak_cpu_mib=_most(_PEAK, texts, 1),
        peak_gpu_mib=_most(_PEAK, texts, 2),
        process_mib=_most(_PROCESS, texts, 1),
        host_persistent_bytes=_only_integer(_HOST_PERSISTENT, texts),
        device_persistent_bytes=_only_integer(_DEVICE_PERSISTENT, texts),
        scratch_bytes=_only_integer(_SCRATCH, texts),
        activation_bytes=_only_integer(_ACTIVATION, texts),
        weights_bytes=_only_integer(_WEIGHTS, texts),
        timing_cache=_timing_cache(texts, options),
        tactics_skipped=sum(1 for text in texts if _SKIPPED.search(text)),
    )


def finite(text: str) -> float | None:
    """Return a printed number, or ``None`` for ``inf`` and ``nan`` (the tool prints them for an empty trace)."""
    value = float(text)
    return value if abs(value) < float("inf") else None


def _only(pattern: re.Pattern[str], texts: Sequence[str]) -> float | None:
    """Return the number that the log tells; ``None`` where it tells two: which is meant depends on their order."""
    found = {match[1] for match in map(pattern.search, texts) if match}
    return finite(found.pop()) if len(found) == 1 else None


def _most(pattern: re.Pattern[str], texts: Sequence[str], group: int) -> float | None:
    found = [finite(match[group]) for match in map(pattern.search, texts) if match]
    return max((value for value in found if value is not None), default=None)


def _only_integer(pattern: re.Pattern[str], texts: Sequence[str]) -> int | None:
    found = {match[1] for match in map(pattern.search, texts) if match}
    return int(found.pop()) if len(found) == 1 and len(next(iter(found))) <= 18 else None


def _timing_cache(texts: Sequence[str], options: dict[str, str]) -> str | None:
    if any("Local timing cache in use" in text for text in texts):
        return "local"
    return options.get("timingCacheMode")


def _switch(block: dict[str, str], key: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(block.get(key, ""))


def _integer(block: dict[str, str], key: str) -> int | None:
    value = block.get(key, "")
    return int(value) if re.fullmatch(r"-?\d{1,18}", value) else None


def _milliseconds(block: dict[str, str], key: str) -> float | None:
    match = re.fullmatch(rf"{_NUMBER}ms", block.get(key, ""))
    return finite(match[1]) if match else None


def _leading_integer(block: dict[str, str], key: str) -> int | None:
    match = re.match(r"(\d{1,18})\b", block.get(key, ""))
    return int(match[1]) if match else None


def _clock(block: dict[str, str], key: str) -> float | None:
    """Return a clock in MHz: 8.6 and later print ``Application Compute Clock Rate``, earlier no ``Application``."""
    match = re.fullmatch(rf"{_NUMBER} GHz", block.get(f"Application {key}", block.get(key, "")))
    value = finite(match[1]) if match else None
    return None if value is None else round(value * 1000, 3)
