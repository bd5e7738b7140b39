-- All sessions, oldest first, with how many runs they have, how many of those count, and how many of its plan were
-- never tried. Times as epochs: DuckDB wants pytz for TIMESTAMPTZ.
-- A case that never had a result is tried once where its engine cannot be built: nothing of it is missing. Sessions
-- that chose their cases as they went, and imports, do not say what they set out to do.
WITH planned AS (
  SELECT session_id, repeats, unnest(from_json(details->'$.cases', '["VARCHAR"]')) AS case_key FROM sessions
), tried AS (
  SELECT session_id, case_key, count(DISTINCT repeat) AS repeats, bool_or(status = 'ok') AS worked
  FROM runs
  GROUP BY ALL
), missing AS (
  SELECT p.session_id,
    sum(greatest(p.repeats - coalesce(t.repeats, 0), 0)) FILTER (coalesce(t.worked, true)) AS missing_runs
  FROM planned p LEFT JOIN tried t ON t.session_id = p.session_id AND t.case_key = p.case_key
  GROUP BY p.session_id
)
SELECT s.session_id::VARCHAR AS session_id, s.plan_name, epoch_us(s.started_at) AS started_us, s.label,
  s.git_commit, s.git_dirty, s.details->>'policy_text' AS policy_text,
  coalesce(n.runs, 0) AS runs, coalesce(n.valid_runs, 0) AS valid_runs,
  coalesce(m.missing_runs, 0)::BIGINT AS missing_runs,
  coalesce(json_keys(s.details->'$.left_for_another_host'), []) AS left_for_another_host
FROM sessions s
LEFT JOIN (
  SELECT session_id, count(*) AS runs, count(*) FILTER (valid) AS valid_runs FROM runs GROUP BY session_id
) n ON n.session_id = s.session_id
LEFT JOIN missing m ON m.session_id = s.session_id
ORDER BY s.started_at, s.session_id
