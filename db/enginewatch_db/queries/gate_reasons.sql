-- The validity reasons of the runs of the sessions in $sessions.
SELECT x.run_id::VARCHAR AS run_id, x.code, x.detail
FROM run_reasons x JOIN runs r USING (run_id)
WHERE list_contains($sessions::UUID[], r.session_id)
ORDER BY x.run_id, x.code
