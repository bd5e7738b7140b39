-- Runs whose id begins with what was typed, newest first.
SELECT run_id::VARCHAR AS run_id, case_key, started_at
FROM runs
WHERE starts_with(run_id::VARCHAR, lower($prefix))
ORDER BY started_at DESC
LIMIT 10
