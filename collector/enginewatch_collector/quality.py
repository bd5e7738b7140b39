"""What the collector knows about its own work: errors per metric, events, read times."""

from __future__ import annotations

import math
from collections import Counter

from enginewatch_db.model import Json

MAX_EVENTS = 200
"""Events that are kept; more are counted in ``events_dropped``. A flood must not fill the disk."""


class LatencyHistogram:
    """Read times in logarithmic buckets: constant memory however long the run is.

    Sixteen buckets per octave, so a quantile is off by at most 2.2 % (half of 2**(1/16) - 1).
    """

    BUCKETS_PER_OCTAVE = 16

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; zero counts as one nanosecond."""
        self._counts[round(math.log2(max(duration_ns, 1)) * self.BUCKETS_PER_OCTAVE)] += 1
        self._total += 1

    def quantile_us(self, level: float) -> float | None:
        """Return the quantile in microseconds; ``None`` before the first duration."""
        rank = level * (self._total - 1)
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen > rank:
                return round(float(2 ** (bucket / self.BUCKETS_PER_OCTAVE)) / 1000, 3)
        return None


class QualityLog:
    """Collects what went wrong while sampling; written into the run's quality block."""

    def __init__(self) -> None:
        self.read_times = LatencyHistogram()
        self.labels: dict[str, str] = {}
        self.events: list[Json] = []
        self.events_dropped = 0
        self._errors: dict[str, Counter[str]] = {}
        self._devices: dict[str, set[str]] = {}

    def error(self, metric: str, code: str, device: str) -> None:
        """Count a read that brought no value.

        Args:
            metric: Telemetry column, or the group of columns that failed together (``gpm``).
            code: Stable name of the error, see ``backends.nvml_codes``; ``nan`` for NaN with a success code.
            device: Which device.
        """
        self._errors.setdefault(metric, Counter())[code] += 1
        self._devices.setdefault(metric, set()).add(device)

    def event(self, kind: str, **details: object) -> None:
        """Note something that happened once, for example ``gpu_lost``."""
        if len(self.events) < MAX_EVENTS:
            self.events.append({"kind": kind, **details})
        else:
            self.events_dropped += 1

    def label(self, key: str, value: str) -> None:
        """Say which of several sources a metric has; devices that differ are joined by ``+``."""
        known = set(self.labels[key].split("+")) if key in self.labels else set()
        self.labels[key] = "+".join(sorted(known | {value}))

    def errors_json(self) -> Json:
        """Return metric → its most frequent code, the count of all its errors, the count of each, and the devices."""
        return {
            metric: {
                "code": codes.most_common(1)[0][0],
                "count": codes.total(),
                "codes": dict(codes.most_common()),
                "devices": sorted(self._devices[metric]),
            }
            for metric, codes in sorted(self._errors.items())
        }
