"""A recording in place of a GPU."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_collector.backends.base import Reading, Values
from enginewatch_collector.columns import COLUMNS, Kind
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.recording import RecordedRow, read_recording
from enginewatch_db.errors import NotAvailableError, UsageError
from enginewatch_db.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

DEVICE = "gpu0"


def load_recording(path: Path, *, phase: str | None = None) -> pa.Table:
    """Return a recording as a telemetry table: ``t_ns`` is wall time in ns, ``phase`` as recorded.

    Args:
        path: CSV file with the columns of ``recording.COLUMN_NAMES``, ``t`` (seconds since the epoch) and ``phase``.
        phase: Only the rows of this phase.

    Raises:
        UsageError: The file cannot be read or parsed, or has no such phase.
    """
    import pyarrow as pa

    from enginewatch_collector.buffer import TelemetryBuffer

    rows = read_recording(path, phase=phase)
    buffer = TelemetryBuffer()
    for row in rows:
        buffer.add_row(ReplayBackend.name, DEVICE, row.t_ns, row.values)
    table = buffer.to_table()
    phases = pa.array([row.phase for row in rows], type=pa.string())
    return table.set_column(table.schema.get_field_index("phase"), table.schema.field("phase"), phases)


class ReplayBackend:
    """Plays a recording back in its own time; when it ends it starts again, with counters carried on.

    Args:
        path: The recording.
        phase: Only the rows of this phase; ``None`` for all.
        clock: Monotonic clock in ns.
    """

    name = "replay"

    def __init__(self, path: Path, *, phase: str | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._path = path
        self._phase = phase
        self._clock = clock
        self._log = QualityLog()
        self._rows: list[RecordedRow] = []
        self._offsets_ns: list[int] = []
        self._origin_ns = 0
        self._restarted = False

    def open(self, log: QualityLog) -> None:
        """Read the recording.

        Raises:
            NotAvailableError: It cannot be read, or has no such phase.
        """
        self._log = log
        try:
            self._rows = read_recording(self._path, phase=self._phase)
        except UsageError as error:
            raise NotAvailableError(error.message, remedy=error.remedy) from error
        self._offsets_ns = [row.t_ns - self._rows[0].t_ns for row in self._rows]
        self._origin_ns = self._clock()

    def devices(self) -> tuple[Json, ...]:
        """Return what the recording tells of its device."""
        facts: Json = {
            "device": DEVICE,
            "source": self.name,
            "name": f"recording {self._path.name}",
            "phases": sorted({row.phase for row in self._rows if row.phase}),
            "rows": len(self._rows),
            "duration_s": self._offsets_ns[-1] / 1e9,
        }
        return (facts,)

    def read_fast(self) -> list[Reading]:
        """Return the newest row that is due by now."""
        now = self._clock()
        # one typical row distance lies between the last row and the first one of the next round
        length_ns = self._offsets_ns[-1] + self._offsets_ns[-1] // max(1, len(self._rows) - 1) + 1
        rounds, offset_ns = divmod(now - self._origin_ns, length_ns)
        if rounds and not self._restarted:
            self._restarted = True
            self._log.event("replay_restarted", device=DEVICE, t_ns=now)
        row = self._rows[bisect_right(self._offsets_ns, offset_ns) - 1]
        values = row.values | self._carried(row.values, rounds)
        return [Reading(source=self.name, device=DEVICE, t_before_ns=now, t_after_ns=self._clock(), values=values)]

    def read_slow(self) -> list[Reading]:
        """Return nothing: a recorded row holds both tiers."""
        return []

    def close(self) -> None:
        """Nothing is held open."""

    def _carried(self, values: Values, rounds: int) -> Values:
        first, last = self._rows[0].values, self._rows[-1].values
        return {
            name: int(values[name]) + rounds * (int(last[name]) - int(first[name]))  # type: ignore[arg-type]
            for name in values.keys() & first.keys() & last.keys()
            if COLUMNS[name].kind is Kind.COUNTER
        }
