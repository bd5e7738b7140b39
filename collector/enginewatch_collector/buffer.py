"""Growable columnar buffers: readings in, one Arrow table out."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from enginewatch_collector.backends.base import Reading, Value, Values
from enginewatch_collector.columns import COLUMNS, Column

if TYPE_CHECKING:
    import pyarrow as pa


class _Buffer:
    """One column of one device: the values that are there, and which rows they belong to."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._values: array[Any] = array(column.typecode)
        self._rows = array("q")
        self._ends = array("q")

    def add(self, row: int, value: Value) -> None:
        cast = float if self._column.typecode == "d" else int
        if isinstance(value, list):
            self._values.extend([cast(item) for item in value])
        else:
            self._values.append(cast(value))
        self._rows.append(row)
        self._ends.append(len(self._values))

    def to_arrow(self, n_rows: int) -> pa.Array:
        """Return the column with a null in each row that has no value."""
        import numpy as np
        import pyarrow as pa

        values = pa.array(np.frombuffer(self._values, dtype=self._column.typecode))
        if self._column.is_list:
            values = pa.ListArray.from_arrays(np.concatenate([[0], self._ends]).astype("int32"), values)
        picks = np.full(n_rows, -1, dtype="int64")
        picks[np.frombuffer(self._rows, dtype="q")] = np.arange(len(self._rows))
        return values.take(pa.array(picks, mask=picks < 0))


class _Group:
    """The rows of one device from one source; holds only the columns that were ever read."""

    def __init__(self) -> None:
        self.times = array("q")
        self.columns: dict[str, _Buffer] = {}

    def add(self, t_ns: int, values: Values) -> None:
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = _Buffer(COLUMNS[name])
            self.columns[name].add(len(self.times), value)
        self.times.append(t_ns)

    def to_arrow(self, source: str, device: str) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        from enginewatch_db.tables import conform

        n = len(self.times)
        columns = {name: buffer.to_arrow(n) for name, buffer in self.columns.items()}
        columns["t_ns"] = pa.array(np.frombuffer(self.times, dtype="q"))
        columns["source"], columns["device"] = pa.repeat(source, n), pa.repeat(device, n)
        return conform("telemetry", pa.table(columns))


class TelemetryBuffer:
    """Collects readings; ``t_ns`` is the absolute monotonic clock and ``phase`` stays null."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}

    def __len__(self) -> int:
        return sum(len(group.times) for group in self._groups.values())

    def append(self, reading: Reading) -> None:
        """Add one reading as one row."""
        self.add_row(reading.source, reading.device, reading.t_ns, reading.values)

    def add_row(self, source: str, device: str, t_ns: int, values: Values) -> None:
        """Add one row.

        Raises:
            KeyError: A value's column is not in ``COLUMNS``.
        """
        self._groups.setdefault((source, device), _Group()).add(t_ns, values)

    def to_table(self) -> pa.Table:
        """Return all rows with the columns of ``enginewatch_db.tables.TELEMETRY``, by device and then by time."""
        import pyarrow as pa

        from enginewatch_db.tables import TELEMETRY

        tables = [group.to_arrow(*key) for key, group in sorted(self._groups.items(), key=lambda item: item[0][::-1])]
        if not tables:
            return TELEMETRY.empty_table()
        return pa.concat_tables(tables).sort_by(
            [("device", "ascending"), ("source", "ascending"), ("t_ns", "ascending")]
        )
