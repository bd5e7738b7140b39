"""Where a load lies inside the telemetry that was recorded around it, and how good that telemetry is. Pure.

The recorder stamped its rows with the wall clock; the tools wrote clocks of their own. What ties them together is
the moment when the GPU became busy. GPM's counters are refreshed every 100 ms and the rows lie as far apart, so
nothing here is better than that; against the seconds in the logs of trtexec it is right to 0.2 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

IDLE_PCT = 1.0
"""SM activity below it is an idle GPU: copying an engine's weights shows 0.03 %, the smallest load 45 %."""
PLATEAU_ROWS = 10
LATE_SHARE = 0.1
GAP_SHARE = 0.5
"""A row is late by a tenth of the period (as the collector counts it); from 1.5 periods on one is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """Wall clock minus another clock.

    Attributes:
        value_ns: The offset.
        spread_ns: Largest distance of a single estimate from it.
        n: Estimates behind it.
    """

    value_ns: int
    spread_ns: int
    n: int


def busy_from_ns(t_ns: NDArray[np.int64], sm_active_pct: NDArray[np.float64]) -> int:
    """Return when the GPU became busy, between two rows.

    The first rows may still show the run before, so the first row with activity *after an idle one* counts. A row
    covers the time since the row before: its share of the plateau that follows tells how much of it was busy.

    Args:
        t_ns: Times of the rows, ascending.
        sm_active_pct: SM activity in each.

    Raises:
        ValueError: The GPU was never idle, or never busy afterwards.
    """
    idle = sm_active_pct < IDLE_PCT
    if not idle.any():
        raise ValueError("the GPU was never idle: there is no start of a load to be seen")
    first_idle = int(np.argmax(idle))
    busy = np.flatnonzero(~idle[first_idle:])
    if not busy.size:
        raise ValueError("the GPU never became busy after it was idle")
    row = first_idle + int(busy[0])
    plateau = sm_active_pct[row + 1 : row + 1 + PLATEAU_ROWS]
    level = float(np.median(plateau)) if plateau.size else float(sm_active_pct[row])
    share = min(1.0, float(sm_active_pct[row]) / level)
    return int(t_ns[row] - round(share * float(t_ns[row] - t_ns[row - 1])))


def clock_offset(busy_ns: Sequence[int], sent_ns: Sequence[int]) -> ClockOffset:
    """Return the wall clock minus the client's clock, from several loads of one host.

    The client's clock is ``time.perf_counter``, on Linux the monotonic clock of the host: one offset holds for all
    loads. Each gives an estimate; their median is taken.

    Args:
        busy_ns: When the GPU became busy in each load, wall clock.
        sent_ns: When the first request of each was sent, client's clock.
    """
    estimates = np.asarray(busy_ns, dtype=np.int64) - np.asarray(sent_ns, dtype=np.int64)
    # The middle one of them (the lower of two): a mean of such large numbers would lose nanoseconds as a float.
    middle = int(np.sort(estimates)[(estimates.size - 1) // 2])
    return ClockOffset(value_ns=middle, spread_ns=int(np.abs(estimates - middle).max()), n=int(estimates.size))


def rows_of(table: pa.Table, phase: str) -> pa.Table:
    """Return the rows that were recorded under a name."""
    import pyarrow.compute as pc

    return table.filter(pc.equal(table.column("phase"), phase))


def between(table: pa.Table, start_ns: int, end_ns: int) -> pa.Table:
    """Return the rows from ``start_ns`` to ``end_ns``."""
    import pyarrow.compute as pc

    t_ns = table.column("t_ns")
    return table.filter(pc.and_(pc.greater_equal(t_ns, start_ns), pc.less_equal(t_ns, end_ns)))


def quality_of(t_ns: NDArray[np.int64], limits: Json) -> Json:
    """Return the quality block of recorded telemetry, in the collector's words; what nobody recorded is ``None``.

    Args:
        t_ns: Times of the rows, ascending, two or more.
        limits: Device → power limit and highest SM clock.
    """
    steps = np.diff(t_ns)
    period_ns = float(np.median(steps))
    span_ns = int(t_ns[-1] - t_ns[0])
    return {
        # The recorder aimed at 10 Hz and waited 100 ms between its reads: what it reached is the grid.
        "rate_hz": round(1e9 / period_ns, 3),
        "achieved_hz": round((t_ns.size - 1) * 1e9 / span_ns, 3),
        "ticks_expected": max(int(t_ns.size), int(span_ns // period_ns) + 1),
        "ticks_made": int(t_ns.size),
        "late_ticks": int((steps > (1 + LATE_SHARE) * period_ns).sum()),
        "gaps": int((steps > (1 + GAP_SHARE) * period_ns).sum()),
        "max_gap_ms": round(float(steps.max()) / 1e6, 3),
        "read_p50_us": None,
        "read_p99_us": None,
        "own_cpu_pct": None,
        "errors": {},
        "events": [],
        "events_dropped": 0,
        "backends": ["recording"],
        "limits": limits,
        "ended_early": False,
        "recorded": True,
    }
