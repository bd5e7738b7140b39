-- The last good engines of each case and series (another GPU is another series): those of the newest session that was
-- accepted, or judged no worse than its baseline. A mark that was withdrawn later (judged again, by other rules) counts
-- no more. The newest session of a case comes first.
WITH newest AS (
  SELECT plan_name, case_key, series_id, engine_sha256, session_id, arg_max(why, marked_at) AS why,
    max(marked_at) AS marked_at
  FROM good_engines
  GROUP BY ALL
), good AS (
  SELECT * FROM newest WHERE NOT starts_with(why, 'withdrawn')
)
SELECT g.plan_name, g.case_key, g.series_id::VARCHAR AS series_id, g.engine_sha256,
  g.session_id::VARCHAR AS session_id, g.why, epoch_us(g.marked_at) AS marked_us
FROM good g
LEFT JOIN engines e USING (engine_sha256)
QUALIFY rank() OVER (PARTITION BY g.plan_name, g.case_key, g.series_id ORDER BY g.session_id DESC) = 1
ORDER BY g.plan_name, g.case_key, g.session_id DESC, g.series_id, coalesce(e.build_number, 0), g.engine_sha256
