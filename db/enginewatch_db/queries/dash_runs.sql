-- Runs, newest first, with every filter optional; n_all is their number before the limit.
WITH shown AS (
  SELECT
    run_id,
    max(value) FILTER (WHERE metric = 'latency_p50_ms') AS latency_p50_ms,
    max(value) FILTER (WHERE metric = 'latency_p99_ms') AS latency_p99_ms,
    max(value) FILTER (WHERE metric = 'ttft_p50_ms') AS ttft_p50_ms,
    max(value) FILTER (WHERE metric = 'output_tokens_s') AS output_tokens_s
  FROM run_metrics GROUP BY run_id
)
SELECT
  r.run_id::VARCHAR AS run_id, r.started_at, r.session_id::VARCHAR AS session_id, se.label AS session_label,
  r.case_key, s.model, s.workload, s.backend, s.precision, s.device, r.repeat, r.status, r.valid, r.reason_codes,
  m.latency_p50_ms, m.latency_p99_ms, m.ttft_p50_ms, m.output_tokens_s,
  date_diff('millisecond', r.started_at, r.ended_at) / 1e3 AS wall_s,
  r.engine_sha256, r.failure_code, r.failure_message, r.failure_remedy, h.hostname, se.git_commit,
  count(*) OVER () AS n_all
FROM runs r
JOIN series s USING (series_id)
JOIN sessions se ON se.session_id = r.session_id
JOIN hosts h ON h.host_id = r.host_id
LEFT JOIN shown m ON m.run_id = r.run_id
WHERE ($session IS NULL OR starts_with(r.session_id::VARCHAR, $session) OR se.label = $session)
  AND ($workload IS NULL OR s.workload = $workload)
  AND ($backend IS NULL OR s.backend = $backend)
  AND ($precision IS NULL OR s.precision = $precision)
  AND ($case IS NULL OR r.case_key = $case)
  AND ($status IS NULL OR r.status = $status)
  AND ($valid IS NULL OR r.valid = ($valid = 'yes'))
ORDER BY r.started_at DESC, r.run_id DESC
LIMIT $limit
