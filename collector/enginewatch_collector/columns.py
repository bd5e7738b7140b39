"""What each telemetry column means: how it is stored, how it is averaged, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a value relates to time.

    ``interval``: mean over the time since the read before. ``instant``: the state at the read.
    ``counter``: cumulative; only differences mean anything.
    """

    INTERVAL = "interval"
    INSTANT = "instant"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One value column of ``enginewatch_db.tables.TELEMETRY``.

    Attributes:
        typecode: Code of the ``array`` module that holds it: ``d`` (float), ``q`` (int64), ``Q`` (uint64).
        kind: How it relates to time.
        provenance: ``host``, ``gpm``, ``nvml_util``, ``nvml`` or ``nvml_counter``.
        is_list: Whether a row holds a list of values.
    """

    typecode: str
    kind: Kind
    provenance: str
    is_list: bool = False


def _many(names: str, typecode: str, kind: Kind, provenance: str) -> dict[str, Column]:
    return {name: Column(typecode=typecode, kind=kind, provenance=provenance) for name in names.split()}


_GPM = """
graphics_active_pct sm_active_pct sm_occupancy_pct tensor_active_pct dram_bw_pct_of_peak
fp32_active_pct fp16_active_pct pcie_tx_mib_s pcie_rx_mib_s
"""
_NVML = "power_mw sm_clock_mhz mem_clock_mhz temp_c mem_temp_c gpu_mem_used_mib"

COLUMNS: dict[str, Column] = {
    **_many("cpu_util_pct cpu_steal_pct", "d", Kind.INTERVAL, "host"),
    "cpu_util_core_pct": Column(typecode="d", kind=Kind.INTERVAL, provenance="host", is_list=True),
    **_many("cpu_freq_mhz host_load_1m", "d", Kind.INSTANT, "host"),
    **_many("host_mem_used_mib", "q", Kind.INSTANT, "host"),
    **_many(_GPM, "d", Kind.INTERVAL, "gpm"),
    **_many("gpu_busy_time_pct mem_ctrl_busy_time_pct", "d", Kind.INSTANT, "nvml_util"),
    **_many(_NVML, "q", Kind.INSTANT, "nvml"),
    **_many("clock_event_reasons", "Q", Kind.INSTANT, "nvml"),
    **_many("energy_mj power_capped_ns thermal_throttle_ns", "q", Kind.COUNTER, "nvml_counter"),
}
"""Every column but ``t_ns``, ``source``, ``device`` and ``phase``."""
