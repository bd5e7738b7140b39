-- Values of the last $limit valid runs per series and metric that began before $before_us, without those of $sessions.
SELECT r.series_id::VARCHAR AS series_id, m.metric, list(m.value ORDER BY r.started_at, r.run_id) AS values
FROM run_metrics m
JOIN (
  SELECT run_id, series_id, started_at, row_number() OVER (PARTITION BY series_id ORDER BY started_at DESC) AS back
  FROM runs
  WHERE valid AND epoch_us(started_at) < $before_us AND list_contains($series::UUID[], series_id)
    AND NOT list_contains($sessions::UUID[], session_id)
) r USING (run_id)
WHERE r.back <= $limit AND m.value IS NOT NULL AND list_contains($metrics::VARCHAR[], m.metric)
GROUP BY r.series_id, m.metric
