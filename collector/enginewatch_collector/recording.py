"""Recordings of real GPUs: CSV files that were read at 10 Hz, parsed into rows of telemetry columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO

from enginewatch_collector.backends.base import Values
from enginewatch_collector.columns import COLUMNS
from enginewatch_db.errors import UsageError

_MIB = 1024 * 1024
COLUMN_NAMES: dict[str, str] = {
    "graphics_util": "graphics_active_pct",
    "sm_util": "sm_active_pct",
    "sm_occupancy": "sm_occupancy_pct",
    "tensor_util": "tensor_active_pct",
    "any_tensor_util": "tensor_active_pct",
    "dram_bw_util": "dram_bw_pct_of_peak",
    "fp32_util": "fp32_active_pct",
    "fp16_util": "fp16_active_pct",
    "pcie_tx_mib_s": "pcie_tx_mib_s",
    "pcie_tx_per_sec": "pcie_tx_mib_s",
    "pcie_rx_mib_s": "pcie_rx_mib_s",
    "pcie_rx_per_sec": "pcie_rx_mib_s",
    "util_gpu": "gpu_busy_time_pct",
    "util_mem": "mem_ctrl_busy_time_pct",
    "power_mw": "power_mw",
    "energy_mj": "energy_mj",
    "clk_sm": "sm_clock_mhz",
    "clk_mem": "mem_clock_mhz",
    "temp_c": "temp_c",
    "reasons": "clock_event_reasons",
    "mem_used": "gpu_mem_used_mib",
}
"""Column of a recording → column of ``enginewatch_db.tables.TELEMETRY``; ``t``, ``phase`` stand beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRow:
    """One row of a recording.

    Attributes:
        t_ns: Wall clock in ns since the epoch.
        phase: Name of the run that it was recorded in.
        values: Telemetry columns; empty and NaN cells have no entry.
    """

    t_ns: int
    phase: str | None
    values: Values


def parse_seconds(text: str) -> int:
    """Return decimal seconds as integer ns, exactly: a float of this size is off by 240 ns.

    Raises:
        ValueError: ``text`` is no decimal number.
    """
    whole, _, fraction = text.strip().partition(".")
    if not (whole + fraction).isdecimal():
        raise ValueError(f"{text!r} is no time in seconds")
    return int(whole or "0") * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def parse_recording(lines: TextIO, name: str) -> list[RecordedRow]:
    """Parse a recording.

    Args:
        lines: The CSV text.
        name: Name for messages.

    Raises:
        UsageError: A column is unknown or missing, or a cell is not a number.
    """
    reader = csv.DictReader(lines)
    _check_header(tuple(reader.fieldnames or ()), name)
    rows = []
    for number, cells in enumerate(reader, start=2):
        try:
            rows.append(_parse_row(cells))
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{name}, line {number}: {error}", remedy="repair or remove the line") from error
    if not rows:
        raise UsageError(f"{name} holds no rows", remedy="give a recording with at least one row")
    return sorted(rows, key=lambda row: row.t_ns)


def read_recording(path: Path, *, phase: str | None = None) -> list[RecordedRow]:
    """Read a recording, or one phase of it.

    Raises:
        UsageError: The file cannot be read or parsed, or has no such phase.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = parse_recording(file, str(path))
    except OSError as error:
        raise UsageError(
            f"cannot read the recording {path}: {error.strerror}", remedy="give an existing file"
        ) from error
    if phase is None:
        return rows
    chosen = [row for row in rows if row.phase == phase]
    if not chosen:
        known = sorted({row.phase for row in rows if row.phase})
        raise UsageError(f"{path} has no phase {phase!r}", remedy=f"choose one of {', '.join(known)}")
    return chosen


def _check_header(header: tuple[str, ...], name: str) -> None:
    known = {"t", "phase", *COLUMN_NAMES}
    for column in header:
        if column not in known:
            near = get_close_matches(column, known, n=1)
            remedy = f"rename it to {near[0]!r}" if near else f"known columns: {', '.join(sorted(known))}"
            raise UsageError(f"{name} has the unknown column {column!r}", remedy=remedy)
    if "t" not in header:
        raise UsageError(f"{name} has no column 't'", remedy="add the time of each row in seconds since the epoch")


def _parse_row(cells: Mapping[str, str]) -> RecordedRow:
    values: Values = {}
    for name, text in cells.items():
        if name in ("t", "phase") or not text.strip():
            continue
        column = COLUMN_NAMES[name]
        number = float(text)
        if math.isnan(number):
            continue
        if name == "mem_used":
            number //= _MIB
        values[column] = number if COLUMNS[column].typecode == "d" else int(number)
    return RecordedRow(t_ns=parse_seconds(cells["t"]), phase=cells.get("phase") or None, values=values)
