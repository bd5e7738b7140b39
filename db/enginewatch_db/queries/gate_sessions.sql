-- All sessions, oldest first, with how many runs they have and how many of those count. Times as epochs: DuckDB wants pytz for TIMESTAMPTZ.
SELECT s.session_id::VARCHAR AS session_id, s.plan_name, epoch_us(s.started_at) AS started_us, s.label, s.git_commit, s.git_dirty,
  coalesce(n.runs, 0) AS runs, coalesce(n.valid_runs, 0) AS valid_runs
FROM sessions s
LEFT JOIN (
  SELECT session_id, count(*) AS runs, count(*) FILTER (valid) AS valid_runs FROM runs GROUP BY session_id
) n ON n.session_id = s.session_id
ORDER BY s.started_at, s.session_id
