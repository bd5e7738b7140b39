-- The cases of some sessions: how many runs, how they ended, and how much history their series had by then.
WITH chosen AS (SELECT unnest($sessions)::UUID AS session_id),
cases AS (
  SELECT
    r.session_id, r.case_key, s.model, s.workload, s.backend, s.precision, any_value(s.batch) AS batch,
    any_value(s.concurrency) AS concurrency,
    arg_max(s.device, r.valid::INTEGER) AS device,
    arg_max(r.series_id, r.valid::INTEGER) AS series_id,
    count(*) AS n_runs,
    count(*) FILTER (WHERE r.status = 'ok') AS n_ok,
    count(*) FILTER (WHERE r.valid) AS n_valid,
    count(*) FILTER (WHERE r.status = 'failed') AS n_failed,
    count(*) FILTER (WHERE r.status = 'not_available') AS n_not_available,
    any_value(r.failure_code) AS failure_code,
    any_value(r.failure_message) AS failure_message,
    any_value(r.failure_remedy) AS failure_remedy,
    (arg_max(r.run_id, r.started_at) FILTER (WHERE r.status = 'failed'))::VARCHAR AS failed_run,
    list_sort(list_distinct(flatten(list(r.reason_codes)))) AS reason_codes
  FROM runs r JOIN series s USING (series_id)
  WHERE r.session_id IN (SELECT session_id FROM chosen)
  GROUP BY r.session_id, r.case_key, s.model, s.workload, s.backend, s.precision
)
SELECT
  c.* REPLACE (c.session_id::VARCHAR AS session_id, c.series_id::VARCHAR AS series_id),
  (
    SELECT count(DISTINCT p.session_id) FROM runs p JOIN sessions ps ON ps.session_id = p.session_id
    WHERE p.series_id = c.series_id AND p.valid AND ps.started_at <= se.started_at
  ) AS sessions_with_data
FROM cases c JOIN sessions se ON se.session_id = c.session_id
ORDER BY c.model, c.case_key
