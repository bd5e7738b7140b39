"""The seam between the sampler and what it reads: devices out, readings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from enginewatch_collector.quality import QualityLog
from enginewatch_db.model import Json

Value = float | int | list[float]
Values = dict[str, Value]
"""Column of ``enginewatch_db.tables.TELEMETRY`` → value. A value that could not be read has no entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one read of one device brought.

    Attributes:
        source: Name of the telemetry backend (``host``, ``nvml``, ``replay``, ``synthetic``).
        device: ``host``, ``gpu0``, ``gpu1``, ...
        t_before_ns: Monotonic clock right before the first call of the read.
        t_after_ns: Monotonic clock right after the last one.
        values: Columns that were read.
    """

    source: str
    device: str
    t_before_ns: int
    t_after_ns: int
    values: Values

    @property
    def t_ns(self) -> int:
        """Midpoint of the read; it is off by at most half of ``t_after_ns - t_before_ns``."""
        return (self.t_before_ns + self.t_after_ns) // 2


class TelemetryBackend(Protocol):
    """Something that can be sampled. What it cannot read goes to the log that ``open`` was given."""

    name: str

    def open(self, log: QualityLog) -> None:
        """Find the devices and prepare every buffer.

        Raises:
            NotAvailableError: There is nothing to sample here.
        """

    def devices(self) -> tuple[Json, ...]:
        """Return the static facts of each device (``device``, ``source``, ...); complete after ``close``."""

    def read_fast(self) -> list[Reading]:
        """Read what changes at 10 Hz; never a call that takes more than a few milliseconds."""

    def read_slow(self) -> list[Reading]:
        """Read what is slow to read or slow to change; called once a second."""

    def close(self) -> None:
        """Free what ``open`` allocated. Does not raise."""
