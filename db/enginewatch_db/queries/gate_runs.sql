-- The runs of the sessions in $sessions with their identity, environment and engine structure.
SELECT r.run_id::VARCHAR AS run_id, r.session_id::VARCHAR AS session_id, r.case_key,
  r.series_id::VARCHAR AS series_id, s.identity, r.status, r.valid, r.failure_code, r.failure_message,
  r.failure_remedy, e.facets, h.hostname, h.details->>'cpu_model' AS cpu_model, g.fingerprint
FROM runs r
JOIN series s USING (series_id)
LEFT JOIN environments e ON e.env_id = r.env_id
LEFT JOIN hosts h ON h.host_id = r.host_id
LEFT JOIN engines g ON g.engine_sha256 = r.engine_sha256
WHERE list_contains($sessions::UUID[], r.session_id)
ORDER BY r.run_id
