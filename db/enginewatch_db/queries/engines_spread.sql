-- Valid runs with their build and one metric's value, for the spread between runs and between builds.
-- Builds of which the same file came out are one build: there is nothing between them that could differ.
SELECT r.session_id::VARCHAR AS session_id, r.plan_name, r.case_key, r.series_id::VARCHAR AS series_id,
  r.engine_sha256, coalesce(r.build_number, 0) AS build_number, r.repeat, m.value
FROM runs r
JOIN run_metrics m ON m.run_id = r.run_id AND m.metric = $metric
WHERE r.valid AND r.engine_sha256 IS NOT NULL AND m.value > 0
  AND ($session IS NULL OR r.session_id = $session::UUID) AND ($plan IS NULL OR r.plan_name = $plan)
ORDER BY r.case_key, r.session_id, r.order_idx
