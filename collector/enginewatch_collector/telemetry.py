"""Reads columns out of a telemetry table, device by device. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from enginewatch_collector.window import Series


@dataclass(frozen=True, slots=True)
class Device:
    """The rows of one device from one source, sorted by time."""

    source: str
    name: str
    table: pa.Table

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU, and not the host."""
        return self.name.startswith("gpu")

    def times(self) -> Series:
        """Return the times of all rows."""
        t_ns = self.table.column("t_ns").to_numpy()
        return Series(t_ns, t_ns)

    def series(self, column: str) -> Series:
        """Return a column without its nulls."""
        values = self.table.column(column)
        valid = values.is_valid()
        return Series(self.table.column("t_ns").filter(valid).to_numpy(), values.filter(valid).to_numpy())

    def core_series(self) -> list[Series]:
        """Return the utilisation of each core; rows with another number of cores than the last are left out."""
        column = self.table.column("cpu_util_core_pct")
        rows = self.table.filter(column.is_valid())
        if not rows.num_rows:
            return []
        lengths = pc.list_value_length(rows.column("cpu_util_core_pct")).to_numpy()
        rows = rows.filter(pa.array(lengths == lengths[-1]))
        flat = pc.list_flatten(rows.column("cpu_util_core_pct")).to_numpy()
        t_ns = rows.column("t_ns").to_numpy()
        return [Series(t_ns, core) for core in flat.reshape(rows.num_rows, -1).T]


def devices(table: pa.Table, names: frozenset[str] | None = None) -> list[Device]:
    """Split a telemetry table.

    Args:
        table: Columns of ``enginewatch_db.tables.TELEMETRY``.
        names: Only these devices; ``None`` for all.
    """
    keys = (
        table.group_by(["source", "device"]).aggregate([]).sort_by([("device", "ascending"), ("source", "ascending")])
    )
    found = []
    for key in keys.to_pylist():
        if names is not None and key["device"] not in names:
            continue
        rows = (pc.field("source") == key["source"]) & (pc.field("device") == key["device"])
        found.append(Device(key["source"], key["device"], table.filter(rows).sort_by("t_ns")))
    return found


def rows_with(device: Device, *columns: str) -> list[np.ndarray]:
    """Return ``t_ns`` and the columns, for the rows in which none of them is null."""
    rows = device.table.select(["t_ns", *columns]).drop_null()
    return [rows.column(name).to_numpy() for name in rows.column_names]
