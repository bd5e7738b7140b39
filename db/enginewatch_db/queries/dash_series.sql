-- Every series that has a run, newest first within its case.
SELECT
  s.case_key, s.series_id::VARCHAR AS series_id, s.model, s.workload, s.backend, s.precision, s.device, s.batch,
  s.concurrency, s.identity::VARCHAR AS identity, count(*) AS n_runs, count(*) FILTER (WHERE r.valid) AS n_valid,
  count(DISTINCT r.session_id) AS n_sessions, max(r.started_at) AS newest_at
FROM series s JOIN runs r USING (series_id)
GROUP BY ALL
ORDER BY s.case_key, n_valid > 0 DESC, newest_at DESC
