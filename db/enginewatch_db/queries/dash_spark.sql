-- The valid runs of the newest sessions up to a moment of some series and metrics, oldest session first.
SELECT r.series_id::VARCHAR AS series_id, m.metric, r.session_id::VARCHAR AS session_id, se.started_at, m.value,
  m.ci_low, m.ci_high
FROM run_metrics m JOIN runs r USING (run_id) JOIN sessions se ON se.session_id = r.session_id
WHERE r.valid AND m.value IS NOT NULL AND se.started_at <= $until
  AND r.series_id IN (SELECT unnest($series)::UUID) AND m.metric IN (SELECT unnest($metrics))
QUALIFY dense_rank() OVER (PARTITION BY r.series_id, m.metric ORDER BY se.started_at DESC, r.session_id) <= $limit
ORDER BY r.series_id, m.metric, se.started_at, r.session_id
