-- The sessions and cases that used an engine, newest first, with the medians of their valid runs.
SELECT r.session_id::VARCHAR AS session_id, se.label, r.plan_name, r.case_key, count(DISTINCT r.run_id) AS runs,
  count(DISTINCT r.run_id) FILTER (r.valid) AS valid_runs, epoch_us(min(r.started_at)) AS started_us,
  list_sort(list_distinct(flatten(list(DISTINCT r.reason_codes)))) AS reasons,
  median(m.value) FILTER (r.valid AND m.metric = 'latency_p50_ms') AS latency_p50_ms,
  median(m.value) FILTER (r.valid AND m.metric = 'throughput_qps') AS throughput_qps
FROM runs r
JOIN sessions se USING (session_id)
LEFT JOIN run_metrics m ON m.run_id = r.run_id AND m.metric IN ('latency_p50_ms', 'throughput_qps')
WHERE r.engine_sha256 = $engine
GROUP BY ALL
ORDER BY started_us DESC, r.case_key
