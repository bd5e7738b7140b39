-- The metrics of one run.
SELECT metric, value, ci_low, ci_high, n, absent_reason, source
FROM run_metrics
WHERE run_id = $run::UUID
