-- What one inference took in the runs of an engine and case: the median GPU time, else latency, of all valid runs.
SELECT median(m.value) FILTER (m.metric = 'gpu_time_p50_ms') AS gpu_ms,
  median(m.value) FILTER (m.metric = 'latency_p50_ms') AS latency_ms
FROM runs r
JOIN run_metrics m USING (run_id)
WHERE r.valid AND r.engine_sha256 = $engine AND r.case_key = $case
