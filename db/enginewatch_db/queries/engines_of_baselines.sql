-- The engines that a baseline was measured with: each plan's accepted session, and where none was accepted, its first.
WITH accepted AS (
  SELECT plan_name, arg_max(session_id, accepted_at) AS session_id FROM baselines GROUP BY plan_name
), firsts AS (
  SELECT plan_name, arg_min(session_id, started_at) AS session_id FROM runs WHERE valid GROUP BY plan_name
)
SELECT DISTINCT r.engine_sha256, r.plan_name
FROM runs r
WHERE r.engine_sha256 IS NOT NULL
  AND r.session_id IN (
    SELECT session_id FROM accepted
    UNION ALL SELECT session_id FROM firsts WHERE plan_name NOT IN (SELECT plan_name FROM accepted))
ORDER BY ALL
