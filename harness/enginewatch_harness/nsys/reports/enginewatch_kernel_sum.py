#!/usr/bin/env python
"""Report of ``nsys stats``: kernels by name and shape, those of CUDA graphs apart; its module is ``nsysstats``."""

import nsysstats


class EnginewatchKernelSum(nsysstats.StatsReport):  # type: ignore[misc] # comes with Nsight Systems, without types
    """Kernels grouped by name, grid, block, and whether a CUDA graph launched them."""

    display_name = "enginewatch: kernels by name and shape"
    usage = """{SCRIPT} -- Kernels by name and shape

    No arguments.

    Output: all times in nanoseconds
        Time (%) : Share of the time of all kernels
        Total Time (ns) : Time of these launches together
        Instances : How many launches
        Avg (ns), Med (ns), Min (ns), Max (ns) : Of one launch
        Grid, Block : Blocks, and threads of a block
        Graph : 1 where a CUDA graph launched it
        Name : Full name of the kernel
"""

    table_checks = {  # noqa: RUF012 - the interface wants a class attribute
        "StringIds": "{DBFILE} does not contain the names of kernels.",
        "CUPTI_ACTIVITY_KIND_KERNEL": (
            "{DBFILE} does not contain CUDA kernel data; where CUDA graphs ran, record with --cuda-graph-trace=node."
        ),
    }

    # SQLite has no median: the middle one, or the mean of the two middle ones, of the times in order.
    query = """
WITH
    launches AS (
        SELECT
            k.end - k.start AS ns,
            k.demangledName AS name_id,
            k.gridX || 'x' || k.gridY || 'x' || k.gridZ AS grid,
            k.blockX || 'x' || k.blockY || 'x' || k.blockZ AS block,
            coalesce(k.graphNodeId, 0) != 0 AS in_graph
        FROM CUPTI_ACTIVITY_KIND_KERNEL AS k
    ),
    ranked AS (
        SELECT
            *,
            row_number() OVER (PARTITION BY name_id, grid, block, in_graph ORDER BY ns) AS place,
            count(*) OVER (PARTITION BY name_id, grid, block, in_graph) AS launched
        FROM launches
    )
SELECT
    round(100.0 * sum(r.ns) / nullif((SELECT sum(ns) FROM launches), 0), 1) AS "Time (%)",
    sum(r.ns) AS "Total Time (ns)",
    count(*) AS "Instances",
    round(avg(r.ns), 1) AS "Avg (ns)",
    avg(CASE WHEN r.place IN ((r.launched + 1) / 2, r.launched / 2 + 1) THEN r.ns END) AS "Med (ns)",
    min(r.ns) AS "Min (ns)",
    max(r.ns) AS "Max (ns)",
    r.grid AS "Grid",
    r.block AS "Block",
    r.in_graph AS "Graph",
    s.value AS "Name"
FROM ranked AS r
LEFT JOIN StringIds AS s ON s.id = r.name_id
GROUP BY r.name_id, r.grid, r.block, r.in_graph
ORDER BY sum(r.ns) DESC, s.value
"""


if __name__ == "__main__":
    EnginewatchKernelSum.Main()
