-- The engines that a baseline was measured with: of each series of a plan (another GPU is another series) the session
-- that was accepted last, and where none was accepted, its first.
WITH accepted AS (
  SELECT r.plan_name, r.series_id, arg_max(b.session_id, b.accepted_at) AS session_id
  FROM baselines b JOIN runs r USING (plan_name, session_id)
  GROUP BY ALL
), firsts AS (
  SELECT plan_name, series_id, arg_min(session_id, started_at) AS session_id FROM runs WHERE valid GROUP BY ALL
), chosen AS (
  SELECT * FROM accepted
  UNION ALL SELECT * FROM firsts ANTI JOIN accepted USING (plan_name, series_id)
)
SELECT DISTINCT r.engine_sha256, r.plan_name
FROM runs r JOIN chosen USING (plan_name, series_id, session_id)
WHERE r.engine_sha256 IS NOT NULL
ORDER BY ALL
