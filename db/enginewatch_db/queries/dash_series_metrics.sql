-- The metrics that a series has: with a value, or with the reason why there is none.
SELECT m.metric, count(m.value) AS n_values, any_value(m.absent_reason) AS absent_reason
FROM run_metrics m JOIN runs r USING (run_id)
WHERE r.series_id = $series::UUID
GROUP BY m.metric
ORDER BY m.metric
