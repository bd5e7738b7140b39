-- The runs that have layers, of an engine, a run, or a case in a session: those with times first, then the newest.
-- `alike` is what two runs must share for a difference between them to be one between their engines.
SELECT l.run_id::VARCHAR AS run_id, any_value(r.case_key) AS case_key, any_value(r.engine_sha256) AS engine_sha256,
  any_value(r.session_id)::VARCHAR AS session_id, count(*) AS layers, count(l.mean_ns) > 0 AS timed,
  any_value({workload: s.workload, model: s.model, batch: s.batch, shapes: s.identity->>'shapes', device: s.device})
    AS alike
FROM layers l
JOIN runs r USING (run_id)
LEFT JOIN series s USING (series_id)
WHERE ($engine IS NULL OR r.engine_sha256 = $engine)
  AND ($run IS NULL OR starts_with(replace(r.run_id::VARCHAR, '-', ''), $run))
  AND ($session IS NULL OR r.session_id = $session::UUID)
  AND ($case IS NULL OR r.case_key = $case)
GROUP BY l.run_id
ORDER BY count(l.mean_ns) = 0, l.run_id DESC
