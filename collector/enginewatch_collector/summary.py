"""Telemetry metrics of a window. Pure: a table in, values out, absent ones with their reason.

Several GPUs become one number: activity, busy time, power and clocks are means over the GPUs (power is that
of one board), ``*_max_*`` is the largest and ``*_min_*`` the smallest on any of them, energy is the sum, and
the throttle shares are those of the GPU that was held back most. A GPU that lacks a value is left out of
means and extremes; a sum is then absent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pyarrow as pa

from enginewatch_collector import window
from enginewatch_collector.columns import COLUMNS, Kind
from enginewatch_collector.reasons import CLOCK_THERMAL_BITS, POWER_CAP_BIT, telemetry_reasons
from enginewatch_collector.telemetry import Device, devices
from enginewatch_collector.window import Estimate, Series
from enginewatch_db.metrics import MetricValue

__all__ = ["summarise", "telemetry_reasons"]

_NO_GPM = "no GPM: utilisation rates are not SM utilisation"


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one metric comes out of one column: over time, over GPUs, in its unit."""

    metric: str
    column: str
    over_time: str
    over_gpus: str = "mean"
    scale: float = 1.0
    missing: str = "not read from this GPU"
    fallback_bits: int = 0


_HOST_RULES = (
    _Rule("cpu_util_mean_pct", "cpu_util_pct", "mean"),
    _Rule("cpu_freq_mean_mhz", "cpu_freq_mhz", "mean", missing="this host tells no CPU frequency"),
    _Rule("host_mem_used_max_mib", "host_mem_used_mib", "max", "max"),
)
_GPU_RULES = (
    _Rule("sm_active_mean_pct", "sm_active_pct", "mean", missing=_NO_GPM),
    _Rule("sm_occupancy_mean_pct", "sm_occupancy_pct", "mean", missing="no GPM"),
    _Rule("tensor_active_mean_pct", "tensor_active_pct", "mean", missing="no GPM"),
    _Rule("dram_bw_mean_pct_of_peak", "dram_bw_pct_of_peak", "mean", missing="no GPM: busy time is not a bandwidth"),
    _Rule("gpu_busy_time_mean_pct", "gpu_busy_time_pct", "mean"),
    _Rule("mem_ctrl_busy_time_mean_pct", "mem_ctrl_busy_time_pct", "mean"),
    _Rule("power_mean_w", "power_mw", "mean", scale=1e-3),
    _Rule("power_max_w", "power_mw", "max", "max", scale=1e-3),
    _Rule("energy_j", "energy_mj", "difference", "sum", scale=1e-3, missing="this GPU has no energy counter"),
    _Rule("sm_clock_mean_mhz", "sm_clock_mhz", "mean"),
    _Rule("sm_clock_min_mhz", "sm_clock_mhz", "min", "min"),
    _Rule("temp_max_c", "temp_c", "max", "max"),
    _Rule("gpu_mem_used_max_mib", "gpu_mem_used_mib", "max", "max"),
    _Rule("power_capped_time_pct", "power_capped_ns", "share", "max", fallback_bits=POWER_CAP_BIT),
    _Rule("thermal_throttle_time_pct", "thermal_throttle_ns", "share", "max", fallback_bits=CLOCK_THERMAL_BITS),
)
_OVER_GPUS: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "max": max,
    "min": min,
}


def summarise(
    table: pa.Table,
    start_ns: int,
    end_ns: int,
    *,
    output_tokens: float | None = None,
    only_devices: Collection[str] | None = None,
) -> tuple[MetricValue, ...]:
    """Return the telemetry metrics of a window; see the module for how several GPUs are put together.

    Values that describe the time since the read before (GPM, CPU) are weighted by their overlap with the
    window, states (power, clocks) by the time that they are the nearest read; energy and throttle times are
    counter differences. Throttle counters that the GPU lacks are replaced by the share of samples with the
    clock-event bit (source ``nvml_reasons``). Without any GPU in the table there are no GPU metrics.

    Args:
        table: Columns of ``enginewatch_db.tables.TELEMETRY``.
        start_ns: Start of the window, on the clock of the table.
        end_ns: End of the window.
        output_tokens: Tokens made in the window, for the energy per token; ``None`` for workloads without.
        only_devices: Names of the devices that belong to the run; ``None`` for all.

    Raises:
        ValueError: The window is empty.
    """
    if end_ns <= start_ns:
        raise ValueError(f"the window from {start_ns} to {end_ns} ns is empty")
    found = devices(table, None if only_devices is None else frozenset(only_devices))
    hosts = [device for device in found if not device.is_gpu]
    gpus = [device for device in found if device.is_gpu]
    metrics = [_metric(rule, hosts, start_ns, end_ns) for rule in _HOST_RULES]
    metrics.insert(1, _busiest_core(hosts, start_ns, end_ns))
    if gpus:
        metrics += [_metric(rule, gpus, start_ns, end_ns) for rule in _GPU_RULES]
        if output_tokens is not None:
            energy = next(metric for metric in metrics if metric.metric == "energy_j")
            metrics.append(_energy_per_token(energy, output_tokens))
    return tuple(metrics)


def _metric(rule: _Rule, found: list[Device], start_ns: int, end_ns: int) -> MetricValue:
    if not found:
        return MetricValue(metric=rule.metric, value=None, absent_reason="no host telemetry")
    estimates, sources = [], set()
    for device in found:
        estimate, source = _estimate(rule, device, start_ns, end_ns)
        estimates.append((device, estimate))
        if estimate.value is not None:
            sources.add(source)
    values = [estimate.value for _, estimate in estimates if estimate.value is not None]
    if not values or (rule.over_gpus == "sum" and len(values) < len(estimates)):
        why = "; ".join(f"{device.name}: {estimate.why}" for device, estimate in estimates if estimate.value is None)
        return MetricValue(metric=rule.metric, value=None, absent_reason=why)
    return MetricValue(
        metric=rule.metric,
        value=_OVER_GPUS[rule.over_gpus](values) * rule.scale,
        n=sum(estimate.n for _, estimate in estimates),
        source="+".join(sorted(sources)),
    )


def _estimate(rule: _Rule, device: Device, start_ns: int, end_ns: int) -> tuple[Estimate, str]:
    series = device.series(rule.column)
    source = "synthetic" if device.source == "synthetic" else COLUMNS[rule.column].provenance
    if not len(series):
        if rule.fallback_bits and len(reasons := device.series("clock_event_reasons")):
            share = window.bits_share(reasons, rule.fallback_bits, start_ns, end_ns)
            return _scaled(share, 100), source if source == "synthetic" else "nvml_reasons"
        return window.absent(rule.missing), source
    return _over_time(rule, series, start_ns, end_ns), source


def _over_time(rule: _Rule, series: Series, start_ns: int, end_ns: int) -> Estimate:
    match rule.over_time:
        case "mean" if COLUMNS[rule.column].kind is Kind.INTERVAL:
            return window.interval_mean(series, start_ns, end_ns)
        case "mean":
            return window.instant_mean(series, start_ns, end_ns)
        case "max" | "min":
            return window.extreme(series, start_ns, end_ns, largest=rule.over_time == "max")
        case "difference":
            return window.counter_difference(series, start_ns, end_ns)
        case _:
            return throttled_pct(series, start_ns, end_ns)


def throttled_pct(series: Series, start_ns: int, end_ns: int) -> Estimate:
    """Return the share of the window, in percent, that a counter of throttled ns covers.

    The counters advance in steps of about 100 ms, so a short window can seem longer than it is: at most 100.
    """
    grown = window.counter_difference(series, start_ns, end_ns)
    share = _scaled(grown, 100 / (end_ns - start_ns))
    return Estimate(value=None if share.value is None else min(share.value, 100.0), n=share.n, why=share.why)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    value = None if estimate.value is None else estimate.value * factor
    return Estimate(value=value, n=estimate.n, why=estimate.why)


def _busiest_core(hosts: list[Device], start_ns: int, end_ns: int) -> MetricValue:
    metric = "cpu_util_max_core_pct"
    cores = [window.interval_mean(core, start_ns, end_ns) for host in hosts for core in host.core_series()]
    values = [core.value for core in cores if core.value is not None]
    if not values:
        why = "no sample in the window" if cores else "no host telemetry"
        return MetricValue(metric=metric, value=None, absent_reason=why)
    return MetricValue(metric=metric, value=max(values), n=cores[0].n, source="host")


def _energy_per_token(energy: MetricValue, output_tokens: float) -> MetricValue:
    metric = "energy_per_token_mj"
    if energy.value is None:
        return MetricValue(metric=metric, value=None, absent_reason=energy.absent_reason)
    if output_tokens <= 0:
        return MetricValue(metric=metric, value=None, absent_reason="no output tokens in the window")
    return MetricValue(metric=metric, value=energy.value * 1000 / output_tokens, n=energy.n, source=energy.source)
