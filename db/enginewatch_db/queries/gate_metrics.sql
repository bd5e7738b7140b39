-- The metrics of the runs of the sessions in $sessions.
SELECT m.run_id::VARCHAR AS run_id, m.metric, m.value, m.ci_low, m.ci_high, m.n, m.absent_reason, m.source
FROM run_metrics m JOIN runs r USING (run_id)
WHERE list_contains($sessions::UUID[], r.session_id)
