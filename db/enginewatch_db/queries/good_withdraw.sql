-- Take back what a judgement of a session had said of a case; with $accepted, what a person accepted too.
INSERT INTO good_engines
SELECT plan_name, case_key, series_id, engine_sha256, session_id, now(), $why
FROM good_engines
WHERE session_id = $session::UUID AND case_key = $case
GROUP BY plan_name, case_key, series_id, engine_sha256, session_id
HAVING starts_with(arg_max(why, marked_at), 'judged')
  OR ($accepted AND starts_with(arg_max(why, marked_at), 'accepted'))
