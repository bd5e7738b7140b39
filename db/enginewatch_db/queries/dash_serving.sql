-- One row per load run: what was loaded, how, and three metrics with the run's own intervals. Every filter is optional.
-- Of several sessions that measured the same series, only the newest one with a result is shown, unless one is chosen.
WITH chosen AS (
  SELECT r.run_id, r.session_id, r.series_id, r.case_key, r.status, r.valid, r.reason_codes, r.repeat, r.started_at,
    r.provenance, se.label, se.started_at AS session_started_at, s.workload, s.model, s.backend, s.precision, s.device,
    s.device_count, s.concurrency, s.load_mode, s.identity
  FROM runs r
  JOIN series s USING (series_id)
  JOIN sessions se ON se.session_id = r.session_id
  WHERE r.status = 'ok' AND s.load_mode IS NOT NULL
    AND ($workload IS NULL OR s.workload = $workload)
    AND ($model IS NULL OR s.model = $model)
    AND ($device IS NULL OR s.device = $device)
    AND ($precision IS NULL OR s.precision = $precision)
    AND ($session IS NULL OR starts_with(r.session_id::VARCHAR, $session) OR se.label = $session)
),
newest AS (
  SELECT series_id, session_id FROM chosen
  GROUP BY series_id, session_id
  QUALIFY row_number() OVER (PARTITION BY series_id
    ORDER BY bool_or(valid) DESC, max(session_started_at) DESC, session_id DESC) = 1
),
shown AS (SELECT c.* FROM chosen c JOIN newest USING (series_id, session_id))
SELECT
  c.run_id::VARCHAR AS run_id, c.session_id::VARCHAR AS session_id, c.series_id::VARCHAR AS series_id, c.case_key,
  c.repeat, c.started_at, c.label, c.session_started_at, c.valid, c.reason_codes, c.workload, c.model, c.backend,
  c.precision, c.device, c.device_count, c.concurrency, c.load_mode, c.identity::VARCHAR AS identity,
  y.value AS y, y.ci_low AS y_low, y.ci_high AS y_high, y.absent_reason AS y_absent,
  x.value AS x, x.ci_low AS x_low, x.ci_high AS x_high, x.absent_reason AS x_absent,
  z.value AS z, z.ci_low AS z_low, z.ci_high AS z_high, z.absent_reason AS z_absent,
  g.value AS goodput_pct, g.ci_low AS goodput_low, g.ci_high AS goodput_high, g.absent_reason AS goodput_absent
FROM shown c
LEFT JOIN run_metrics y ON y.run_id = c.run_id AND y.metric = $throughput
LEFT JOIN run_metrics x ON x.run_id = c.run_id AND x.metric = $interactivity
LEFT JOIN run_metrics z ON z.run_id = c.run_id AND z.metric = $metric
LEFT JOIN run_metrics g ON g.run_id = c.run_id AND g.metric = 'goodput_pct'
ORDER BY c.model, c.backend, c.precision, c.device, c.concurrency, c.case_key, c.started_at, c.run_id
LIMIT $limit
