-- The builds of one key that were measured: each one's own time, and the files that came out.
SELECT coalesce(r.build_number, 0) AS build_number, r.engine_sha256, any_value(m.value) AS build_time_s,
  count(DISTINCT r.run_id) AS runs
FROM runs r
JOIN engines e USING (engine_sha256)
LEFT JOIN run_metrics m ON m.run_id = r.run_id AND m.metric = 'build_time_s' AND m.value IS NOT NULL
WHERE e.engine_key = $key
GROUP BY ALL
ORDER BY ALL
