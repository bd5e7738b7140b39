-- The kernels of a run, those that took longest first; n is their number before the limit.
SELECT name, layer, calls, total_ns / 1e6 AS total_ms, mean_ns / 1e3 AS mean_us, median_ns / 1e3 AS median_us,
  min_ns / 1e3 AS min_us, max_ns / 1e3 AS max_us, time_pct, grid, block, source, count(*) OVER () AS n
FROM kernels WHERE run_id = $run::UUID
ORDER BY total_ns DESC NULLS LAST, kernel_idx
LIMIT $limit
