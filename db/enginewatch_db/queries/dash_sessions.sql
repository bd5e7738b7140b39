-- Sessions with their counts, newest first.
WITH counts AS (
  SELECT
    r.session_id, min(h.hostname) AS hostname, count(*) AS n_runs, count(DISTINCT r.case_key) AS n_cases,
    count(*) FILTER (WHERE r.valid) AS n_valid,
    count(*) FILTER (WHERE r.status = 'failed') AS n_failed,
    count(*) FILTER (WHERE r.status = 'not_available') AS n_not_available,
    max(coalesce(r.ended_at, r.started_at)) AS ended_at
  FROM runs r LEFT JOIN hosts h ON h.host_id = r.host_id
  GROUP BY r.session_id
)
SELECT
  se.session_id::VARCHAR AS session_id, se.plan_name, se.label, se.started_at, se.git_commit, se.git_branch,
  se.git_dirty, se.trigger, c.* EXCLUDE (session_id),
  se.session_id IN (SELECT candidate_session FROM verdicts) AS judged,
  se.session_id IN (SELECT session_id FROM baselines) AS accepted
FROM sessions se JOIN counts c USING (session_id)
ORDER BY se.started_at DESC, se.session_id DESC
LIMIT $limit
