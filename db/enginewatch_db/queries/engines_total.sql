-- What one inference took in the valid runs of a case in a session with one engine: GPU time, else latency, medians.
SELECT median(m.value) FILTER (m.metric = 'gpu_time_p50_ms') AS gpu_ms,
  median(m.value) FILTER (m.metric = 'latency_mean_ms') AS latency_ms
FROM runs r
JOIN run_metrics m USING (run_id)
WHERE r.valid AND r.engine_sha256 IS NOT DISTINCT FROM $engine AND r.case_key = $case AND r.session_id = $session::UUID
