-- Append a mark for each engine of a case in a session that has a valid run, unless the same one stands already.
INSERT INTO good_engines
SELECT DISTINCT r.plan_name, r.case_key, r.series_id, r.engine_sha256, r.session_id, now(), $why
FROM runs r
ANTI JOIN (
  SELECT series_id, engine_sha256, arg_max(why, marked_at) AS why
  FROM good_engines WHERE session_id = $session::UUID AND case_key = $case
  GROUP BY series_id, engine_sha256
  HAVING starts_with(arg_max(why, marked_at), $kind) OR starts_with(arg_max(why, marked_at), 'accepted')
) g ON g.engine_sha256 = r.engine_sha256 AND g.series_id = r.series_id
WHERE r.session_id = $session::UUID AND r.case_key = $case AND r.valid AND r.engine_sha256 IS NOT NULL
