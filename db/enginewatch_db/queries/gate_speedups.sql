-- The values of $metrics of the valid runs of session $session, with what the plan compares its cases with.
SELECT r.run_id::VARCHAR AS run_id, r.case_key, r.repeat, s.identity, m.metric, m.value, m.ci_low, m.ci_high,
  se.details->>'speedup_reference' AS reference
FROM runs r
JOIN series s USING (series_id)
JOIN sessions se ON se.session_id = r.session_id
JOIN run_metrics m ON m.run_id = r.run_id
WHERE r.session_id = $session::UUID AND r.valid AND m.value IS NOT NULL AND list_contains($metrics::VARCHAR[], m.metric)
ORDER BY r.run_id, m.metric
