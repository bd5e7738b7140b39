-- The requests of a run by phase and by how they ended.
SELECT phase, status, error_class, count(*) AS n, any_value(error) AS error
FROM llm_requests WHERE run_id = $run::UUID
GROUP BY ALL ORDER BY phase, status, n DESC
