-- The newest sessions of some series and metrics: one location each, oldest first.
WITH located AS (
  SELECT r.series_id, m.metric, r.session_id, se.started_at, median(m.value) AS value, count(*) AS n
  FROM run_metrics m JOIN runs r USING (run_id) JOIN sessions se ON se.session_id = r.session_id
  WHERE r.valid AND m.value IS NOT NULL
    AND r.series_id IN (SELECT unnest($series)::UUID) AND m.metric IN (SELECT unnest($metrics))
  GROUP BY ALL
)
SELECT series_id::VARCHAR AS series_id, metric, session_id::VARCHAR AS session_id, started_at, value, n
FROM located
QUALIFY row_number() OVER (PARTITION BY series_id, metric ORDER BY started_at DESC) <= $limit
ORDER BY series_id, metric, started_at
