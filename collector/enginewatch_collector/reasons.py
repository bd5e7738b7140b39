"""Validity reasons that telemetry shows. Pure. Rules R0 to R3 of the bottleneck classifier, modifiers only.

Throttling does not say what limits a run; it says that its numbers are not those of the free-running GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import pyarrow as pa

from enginewatch_collector import window
from enginewatch_collector.columns import COLUMNS, Kind
from enginewatch_collector.telemetry import Device, devices, rows_with
from enginewatch_collector.window import Series
from enginewatch_db.model import Json
from enginewatch_db.validity import Reason

IDLE_BIT = 0x1
POWER_CAP_BIT = 0x4
CLOCK_THERMAL_BITS = 0x20 | 0x40
"""``nvmlClocksEventReason*`` of nvml.h: GPU idle, SW power cap, SW and HW thermal slowdown."""

GAP_SHARE = 0.05
"""R0: telemetry with more than 5 % of its ticks missing does not carry a diagnosis."""
THERMAL_SHARE = 0.01
THERMAL_BITS_SHARE = 0.02
"""R1: thermal counters grew in at least 1 % of the time; by sampled bits, which are weaker, 2 %."""
POWER_CAP_SHARE = 0.05
POWER_NEAR_LIMIT = 0.95
"""R2: the power-cap counter grew in at least 5 % of the time; by sampled bits only with 95 % of the limit drawn."""
CLOCK_VARIATION = 0.02
"""R3: standard deviation of the SM clock over its mean; trtexec calls GPU time unstable from 1 % on."""
MIN_CLOCK_SAMPLES = 10
"""A second at 10 Hz; fewer samples tell nothing about a variation."""


def telemetry_reasons(
    table: pa.Table,
    quality: Json,
    start_ns: int,
    end_ns: int,
    *,
    only_devices: Collection[str] | None = None,
    own_pids: Collection[int] = (),
) -> tuple[Reason, ...]:
    """Return the validity reasons of a window, each code once with all its devices.

    Args:
        table: Columns of ``enginewatch_db.tables.TELEMETRY``.
        quality: Quality block of the collector; may be empty for recordings.
        start_ns: Start of the window, on the clock of the table.
        end_ns: End of the window.
        only_devices: Names of the devices that belong to the run; ``None`` for all.
        own_pids: Processes that are part of the run although the harness did not start them, such as a server
            that was already there.

    Raises:
        ValueError: The window is empty.
    """
    if end_ns <= start_ns:
        raise ValueError(f"the window from {start_ns} to {end_ns} ns is empty")
    found = devices(table, None if only_devices is None else frozenset(only_devices))
    names = {device.name for device in found}
    events = [event for event in quality.get("events", []) if event.get("device") in names]
    lost = {event["device"] for event in events if event["kind"] == "gpu_lost" and event["t_ns"] <= end_ns}
    foreign = [event for event in events if event["kind"] == "foreign_process" and event["pid"] not in own_pids]
    gpus = [device for device in found if device.is_gpu]
    limits = quality.get("limits", {})
    reasons = [
        *_coverage(found, lost, quality.get("rate_hz"), start_ns, end_ns),
        _reason("gpu_lost", sorted(lost)),
        _reason("foreign_process", [f"{e['device']}: pid {e['pid']} ({e['name']}) at {e['when']}" for e in foreign]),
        _each("thermally_throttled", gpus, lambda gpu: _thermal(gpu, start_ns, end_ns)),
        _each("power_capped", gpus, lambda gpu: _power_cap(gpu, limits.get(gpu.name, {}), start_ns, end_ns)),
        _each("clocks_unstable", gpus, lambda gpu: _clocks(gpu, start_ns, end_ns)),
        _each("counter_backwards", gpus, lambda gpu: _backwards(gpu, start_ns, end_ns)),
        _reason("nan_telemetry", _nan_metrics(quality)),
    ]
    return tuple(reason for reason in reasons if reason is not None)


def _reason(code: str, details: list[str]) -> Reason | None:
    return Reason(code=code, detail="; ".join(details)) if details else None


def _each(code: str, gpus: list[Device], check: Callable[[Device], str | None]) -> Reason | None:
    return _reason(code, [f"{gpu.name}: {detail}" for gpu in gpus if (detail := check(gpu)) is not None])


def _coverage(
    found: list[Device], lost: set[str], rate_hz: float | None, start_ns: int, end_ns: int
) -> list[Reason | None]:
    times = {device.name: device.times().t_ns for device in found}
    if not any(((t >= start_ns) & (t <= end_ns)).any() for t in times.values()):
        return [Reason(code="telemetry_absent", detail="no row in the measuring phase")]
    period_ns = None if rate_hz is None else round(1e9 / rate_hz)
    missed = {n: window.missed_share(t, start_ns, end_ns, period_ns) for n, t in times.items() if n not in lost}
    details = [
        f"{name}: {100 * share:.1f} % of the ticks missing" for name, share in missed.items() if share > GAP_SHARE
    ]
    return [_reason("telemetry_gaps", details)]


def _counter_or_bits(gpu: Device, column: str, bits: int, start_ns: int, end_ns: int) -> tuple[float, bool] | None:
    """Return the throttled share of the window, and whether it is from the exact counter."""
    grown = window.counter_difference(gpu.series(column), start_ns, end_ns).value
    if grown is not None:
        return min(1.0, grown / (end_ns - start_ns)), True
    share = window.bits_share(gpu.series("clock_event_reasons"), bits, start_ns, end_ns).value
    return None if share is None else (share, False)


def _thermal(gpu: Device, start_ns: int, end_ns: int) -> str | None:
    measured = _counter_or_bits(gpu, "thermal_throttle_ns", CLOCK_THERMAL_BITS, start_ns, end_ns)
    if measured is None or measured[0] < (THERMAL_SHARE if measured[1] else THERMAL_BITS_SHARE):
        return None
    return _share_text(*measured)


def _power_cap(gpu: Device, limits: Json, start_ns: int, end_ns: int) -> str | None:
    measured = _counter_or_bits(gpu, "power_capped_ns", POWER_CAP_BIT, start_ns, end_ns)
    if measured is None or measured[0] < POWER_CAP_SHARE:
        return None
    limit_mw = limits.get("power_limit_mw")
    power_mw = window.extreme(gpu.series("power_mw"), start_ns, end_ns, largest=True).value
    is_exact = measured[1]
    if not is_exact and limit_mw and power_mw is not None and power_mw < POWER_NEAR_LIMIT * limit_mw:
        return None
    text = _share_text(*measured)
    clock = window.instant_mean(gpu.series("sm_clock_mhz"), start_ns, end_ns).value
    max_clock = limits.get("max_sm_clock_mhz")
    if clock is not None and max_clock:
        text += f", SM clock {100 * (1 - clock / max_clock):.1f} % under its maximum"
    return text


def _share_text(share: float, is_exact: bool) -> str:
    return f"{100 * share:.1f} % of the time" + ("" if is_exact else " (by sampled clock-event bits)")


def _clocks(gpu: Device, start_ns: int, end_ns: int) -> str | None:
    # an idle GPU lowers its clock by itself: only the time with work counts
    t_ns, clocks, reasons = rows_with(gpu, "sm_clock_mhz", "clock_event_reasons")
    busy = (reasons.astype("uint64") & IDLE_BIT) == 0
    varied = window.variation(Series(t_ns[busy], clocks[busy]), start_ns, end_ns)
    if varied.value is None or varied.n < MIN_CLOCK_SAMPLES or varied.value < CLOCK_VARIATION:
        return None
    return f"SM clock varied by {100 * varied.value:.1f} %"


def _backwards(gpu: Device, start_ns: int, end_ns: int) -> str | None:
    for column, meaning in COLUMNS.items():
        if meaning.kind is Kind.COUNTER:
            why = window.counter_difference(gpu.series(column), start_ns, end_ns).why or ""
            if "backwards" in why:
                return f"{column}: {why}"
    return None


def _nan_metrics(quality: Json) -> list[str]:
    errors = quality.get("errors", {})
    return [f"{metric}: {error['codes']['nan']} reads" for metric, error in errors.items() if "nan" in error["codes"]]
