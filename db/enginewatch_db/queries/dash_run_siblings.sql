-- The cases of the same model in the same session, with the medians of the metrics that tell what limits them.
WITH me AS (
  SELECT r.session_id, r.case_key, s.model FROM runs r JOIN series s USING (series_id) WHERE r.run_id = $run::UUID
)
SELECT
  r.case_key, any_value(s.backend) AS backend, any_value(s.precision) AS precision, any_value(s.batch) AS batch,
  any_value(s.concurrency) AS concurrency, any_value(r.case_key = me.case_key) AS here,
  arg_max(r.run_id, r.started_at)::VARCHAR AS run_id, count(DISTINCT r.run_id) AS n_runs,
  median(m.value) FILTER (WHERE m.metric = 'latency_p50_ms') AS latency_p50_ms,
  median(m.value) FILTER (WHERE m.metric = 'throughput_items_s') AS throughput_items_s,
  median(m.value) FILTER (WHERE m.metric = 'ttft_p50_ms') AS ttft_p50_ms,
  median(m.value) FILTER (WHERE m.metric = 'itl_p50_ms') AS itl_p50_ms,
  median(m.value) FILTER (WHERE m.metric = 'output_tokens_s') AS output_tokens_s,
  median(m.value) FILTER (WHERE m.metric = 'gpu_busy_time_mean_pct') AS gpu_busy_time_mean_pct,
  median(m.value) FILTER (WHERE m.metric = 'sm_active_mean_pct') AS sm_active_mean_pct,
  median(m.value) FILTER (WHERE m.metric = 'tensor_active_mean_pct') AS tensor_active_mean_pct,
  median(m.value) FILTER (WHERE m.metric = 'dram_bw_mean_pct_of_peak') AS dram_bw_mean_pct_of_peak,
  median(m.value) FILTER (WHERE m.metric = 'power_mean_w') AS power_mean_w,
  median(m.value) FILTER (WHERE m.metric = 'sm_clock_mean_mhz') AS sm_clock_mean_mhz,
  median(m.value) FILTER (WHERE m.metric = 'cpu_util_mean_pct') AS cpu_util_mean_pct
FROM me
JOIN runs r ON r.session_id = me.session_id AND r.valid
JOIN series s ON s.series_id = r.series_id AND s.model = me.model
JOIN run_metrics m ON m.run_id = r.run_id
GROUP BY r.case_key
ORDER BY any_value(s.backend), any_value(s.precision), any_value(s.batch), any_value(s.concurrency), r.case_key
