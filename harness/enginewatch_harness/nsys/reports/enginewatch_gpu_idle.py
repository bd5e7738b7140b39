#!/usr/bin/env python
"""Report of ``nsys stats``: times in which a GPU had nothing to do; its module is ``nsysstats``."""

from __future__ import annotations

from collections.abc import Sequence

import nsysstats

LONGEST = 50

WORK_TABLES = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
)


def query_for(tables: Sequence[str]) -> str:
    """Return the SQL over those of the tables of GPU work that a file has."""
    work = " UNION ALL ".join(f"SELECT start, end, deviceId FROM {name}" for name in tables)  # noqa: S608
    return f"""
WITH
    work AS ({work}),
    reached AS (
        SELECT
            deviceId,
            start,
            max(end) OVER (
                PARTITION BY deviceId ORDER BY start, end ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS busy_until
        FROM work
    ),
    span AS (SELECT deviceId, max(end) - min(start) AS ns FROM work GROUP BY deviceId)
SELECT
    r.start - r.busy_until AS "Idle (ns)",
    round(100.0 * (r.start - r.busy_until) / nullif(s.ns, 0), 2) AS "Of All (%)",
    r.busy_until AS "From (ns)",
    r.start AS "To (ns)",
    r.deviceId AS "Device"
FROM reached AS r
JOIN span AS s USING (deviceId)
WHERE r.start > r.busy_until
ORDER BY 1 DESC, r.start
LIMIT {LONGEST}
"""  # noqa: S608 - the names are those above


class EnginewatchGpuIdle(nsysstats.StatsReport):  # type: ignore[misc] # comes with Nsight Systems, without types
    """The longest gaps between pieces of work of a GPU, all streams together."""

    display_name = "enginewatch: the longest times without work on a GPU"
    usage = """{SCRIPT} -- The longest times without work on a GPU

    No arguments.

    Output: all times in nanoseconds
        Idle (ns) : Length of the gap
        Of All (%) : Its share of the time from the device's first work to its last
        From (ns), To (ns) : Where it lies
        Device : CUDA device index
"""

    def setup(self) -> str | None:
        """Build the query for the tables that are there; return why not, where there is none of them."""
        error = super().setup()
        if error is not None:
            return str(error)
        found = [name for name in WORK_TABLES if self.table_exists(name)]
        if not found:
            return "{DBFILE} does not contain CUDA data."
        self.query = query_for(found)
        return None


if __name__ == "__main__":
    EnginewatchGpuIdle.Main()
