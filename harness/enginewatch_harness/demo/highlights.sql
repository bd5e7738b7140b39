-- What the demo's highlights are made of: one row a run.
SELECT
  r.plan_name, r.case_key, s.precision, s.batch, s.concurrency, s.load_mode, r.engine_sha256,
  max(m.value) FILTER (WHERE m.metric = 'latency_p50_ms') AS latency_p50_ms,
  max(m.value) FILTER (WHERE m.metric = 'latency_mean_ms') AS latency_mean_ms,
  max(m.value) FILTER (WHERE m.metric = 'output_tokens_s') AS output_tokens_s,
  max(m.value) FILTER (WHERE m.metric = 'gpu_busy_time_mean_pct') AS gpu_busy_time_pct,
  max(m.value) FILTER (WHERE m.metric = 'sm_active_mean_pct') AS sm_active_pct,
  max(m.value) FILTER (WHERE m.metric = 'tensor_active_mean_pct') AS tensor_active_pct,
  max(m.value) FILTER (WHERE m.metric = 'dram_bw_mean_pct_of_peak') AS dram_bw_pct_of_peak,
  max(m.value) FILTER (WHERE m.metric = 'sm_clock_min_mhz') AS sm_clock_min_mhz,
  max(m.value) FILTER (WHERE m.metric = 'power_max_w') AS power_max_w,
  any_value(CAST(r.devices->0->>'power_limit_mw' AS DOUBLE)) / 1000 AS power_limit_w,
  any_value(CAST(r.devices->0->>'max_sm_clock_mhz' AS DOUBLE)) AS max_sm_clock_mhz,
  any_value(CAST(r.devices->0->>'dram_peak_gb_s' AS DOUBLE)) AS dram_peak_gb_s
FROM runs r
JOIN series s USING (series_id)
JOIN run_metrics m USING (run_id)
WHERE r.valid
GROUP BY r.run_id, r.plan_name, r.case_key, s.precision, s.batch, s.concurrency, s.load_mode, r.engine_sha256
ORDER BY r.plan_name, r.case_key, r.run_id
