-- The runs of a series with one metric, oldest first; runs of the same case that ended without a result belong to it.
WITH mine AS (
  SELECT r.* FROM runs r
  WHERE r.series_id = $series::UUID OR (r.case_key = $case AND r.status <> 'ok')
),
newest AS (
  SELECT session_id FROM mine JOIN sessions se USING (session_id) GROUP BY session_id
  ORDER BY max(se.started_at) DESC, session_id DESC LIMIT $sessions
)
SELECT
  r.run_id::VARCHAR AS run_id, r.session_id::VARCHAR AS session_id, se.label, se.started_at AS session_started_at,
  se.git_commit, se.git_dirty, h.hostname, r.env_id::VARCHAR AS env_id, r.plan_name, r.repeat, r.started_at, r.status,
  r.valid, r.reason_codes, r.failure_message, r.engine_sha256, m.value, m.ci_low, m.ci_high, m.n, m.absent_reason
FROM mine r
JOIN newest USING (session_id)
JOIN sessions se ON se.session_id = r.session_id
JOIN hosts h ON h.host_id = r.host_id
LEFT JOIN run_metrics m ON m.run_id = r.run_id AND m.metric = $metric
ORDER BY se.started_at, r.session_id, r.started_at, r.run_id
