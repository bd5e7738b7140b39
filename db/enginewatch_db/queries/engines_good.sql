-- The last good engines of each case: those of the newest session that was accepted, or judged no worse than its
-- baseline. A mark that was withdrawn later (judged again, by other rules) counts no more.
WITH newest AS (
  SELECT plan_name, case_key, series_id, engine_sha256, session_id, arg_max(why, marked_at) AS why,
    max(marked_at) AS marked_at
  FROM good_engines
  GROUP BY ALL
), good AS (
  SELECT * FROM newest WHERE NOT starts_with(why, 'withdrawn')
)
SELECT plan_name, case_key, series_id::VARCHAR AS series_id, engine_sha256, session_id::VARCHAR AS session_id, why,
  epoch_us(marked_at) AS marked_us
FROM good
QUALIFY rank() OVER (PARTITION BY plan_name, case_key ORDER BY session_id DESC) = 1
ORDER BY plan_name, case_key, marked_us, engine_sha256
