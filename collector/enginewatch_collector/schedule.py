"""When to sample: ticks on a grid that does not drift. Pure: no clock, no sleeping."""

from __future__ import annotations

from dataclasses import dataclass, field

from enginewatch_db.errors import UsageError

NS_PER_S = 1_000_000_000
MIN_RATE_HZ, MAX_RATE_HZ = 0.1, 200.0
"""200 Hz: no harm to a launch-bound loop was measurable up to there; more brings no new NVML value."""
LATE_SHARE = 0.1
"""A tick that begins later than this share of the period is counted as late."""
SLOW_PERIOD_NS = NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class TickPlan:
    """The grid ``start_ns + k * period_ns``.

    Attributes:
        start_ns: Tick 0 on the monotonic clock.
        period_ns: Distance of two ticks.
    """

    start_ns: int
    period_ns: int

    @classmethod
    def at_rate(cls, start_ns: int, rate_hz: float) -> TickPlan:
        """Return the plan with ``rate_hz`` ticks per second.

        Raises:
            UsageError: The rate is outside ``MIN_RATE_HZ`` to ``MAX_RATE_HZ``.
        """
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise UsageError(
                f"sampling rate of {rate_hz} Hz is outside {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g} Hz",
                remedy="use 10 Hz: GPU counters change every 100 ms",
            )
        return cls(start_ns=start_ns, period_ns=round(NS_PER_S / rate_hz))

    def deadline_ns(self, index: int) -> int:
        """Return when tick ``index`` is due."""
        return self.start_ns + index * self.period_ns

    def due_index(self, index: int, now_ns: int) -> int:
        """Return the tick to make: ``index``, or the one nearest to now if that is over by half a period.

        The ticks in between are missed for good: two ticks are never made shortly after one another.
        """
        nearest = (2 * (now_ns - self.start_ns) + self.period_ns) // (2 * self.period_ns)
        return max(index, nearest)

    def slow_slot(self, index: int) -> int:
        """Return the number of the one-second slot that tick ``index`` lies in; the slow tier runs once in each."""
        return index // max(1, round(SLOW_PERIOD_NS / self.period_ns))


@dataclass(slots=True, kw_only=True)
class TickCounter:
    """Counts ticks as they are made.

    Attributes:
        plan: The grid.
        made: Ticks made.
        late: Ticks that began more than ``LATE_SHARE`` of a period after their deadline.
        gaps: Places where one or more ticks are missing.
        max_gap_ns: Longest time between the beginnings of two consecutive ticks.
    """

    plan: TickPlan
    made: int = 0
    late: int = 0
    gaps: int = 0
    max_gap_ns: int = 0
    first_ns: int | None = field(default=None)
    last_ns: int | None = field(default=None)
    _last_index: int = field(default=-1)

    def tick(self, index: int, now_ns: int) -> None:
        """Count tick ``index``, begun at ``now_ns``."""
        self.made += 1
        self.late += now_ns - self.plan.deadline_ns(index) > LATE_SHARE * self.plan.period_ns
        self.gaps += index > self._last_index + 1
        if self.last_ns is None:
            self.first_ns = now_ns
        else:
            self.max_gap_ns = max(self.max_gap_ns, now_ns - self.last_ns)
        self.last_ns, self._last_index = now_ns, index

    def achieved_hz(self) -> float | None:
        """Return ticks per second between the first and the last one; ``None`` for fewer than two."""
        if self.first_ns is None or self.last_ns is None or self.last_ns == self.first_ns:
            return None
        return (self.made - 1) * NS_PER_S / (self.last_ns - self.first_ns)

    def expected(self) -> int:
        """Return how many ticks were due up to the last one that was made."""
        return self._last_index + 1
