-- The layers of a run, slowest first.
SELECT layer_idx, name, layer_type, tactic, dtype, calls, mean_ns / 1e3 AS mean_us, median_ns / 1e3 AS median_us,
  time_pct, source, count(*) OVER () AS n, sum(mean_ns) OVER () / 1e6 AS sum_ms
FROM layers WHERE run_id = $run::UUID
ORDER BY mean_ns DESC NULLS LAST, layer_idx
LIMIT $limit
