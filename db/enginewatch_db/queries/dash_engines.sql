-- Every engine with every case that it was used in, the engine that was used last first. What the engine's own columns
-- lack (imports, older stores) is taken from the series of its runs. The median latency is that of the newest session
-- with valid runs, the accuracy that of the newest run which compared outputs, the layers those of the newest run that
-- has any: one with times before one without, a valid one before one that does not count.
WITH used AS (
  SELECT r.engine_sha256, r.case_key, arg_max(r.series_id, r.started_at) AS series_id, count(*) AS runs,
    count(*) FILTER (r.valid) AS valid_runs, count(DISTINCT r.session_id) AS sessions, max(r.started_at) AS last_used,
    arg_max(r.session_id, r.started_at) FILTER (r.valid) AS session_id,
    arg_max(r.run_id, r.started_at) AS newest_run, any_value(r.realised_precision) AS realised_precision
  FROM runs r WHERE r.engine_sha256 IS NOT NULL
  GROUP BY ALL
), layered AS (
  SELECT r.engine_sha256, r.case_key, arg_max(r.run_id, (t.timed, r.valid, r.started_at)) AS run_id,
    arg_max(r.session_id, (t.timed, r.valid, r.started_at)) AS session_id,
    arg_max(r.valid, (t.timed, r.valid, r.started_at)) AS valid
  FROM runs r JOIN (SELECT run_id, count(mean_ns) > 0 AS timed FROM layers GROUP BY run_id) t USING (run_id)
  GROUP BY ALL
), medians AS (
  SELECT u.engine_sha256, u.case_key,
    median(m.value) FILTER (m.metric = 'latency_p50_ms') AS latency_p50_ms,
    median(m.value) FILTER (m.metric = 'gpu_time_p50_ms') AS gpu_time_p50_ms
  FROM used u
  JOIN runs r ON r.engine_sha256 = u.engine_sha256 AND r.case_key = u.case_key AND r.session_id = u.session_id
    AND r.valid
  JOIN run_metrics m ON m.run_id = r.run_id AND m.metric IN ('latency_p50_ms', 'gpu_time_p50_ms')
  GROUP BY ALL
), compared AS (
  SELECT r.engine_sha256, r.case_key, arg_max(m.value, r.started_at) AS output_rel_l2,
    arg_max(r.session_id, r.started_at) AS session_id
  FROM run_metrics m JOIN runs r USING (run_id)
  WHERE m.metric = 'output_rel_l2' AND m.value IS NOT NULL
  GROUP BY ALL
)
SELECT e.engine_sha256, e.engine_key, e.path, e.size_bytes, e.build_time_s,
  coalesce(e.realised_precision, u.realised_precision) AS realised_precision, e.fingerprint,
  e.details::VARCHAR AS details, coalesce(e.model, s.model) AS model, e.model_sha256,
  coalesce(e.backend, s.backend) AS backend, e.tool_version, coalesce(e.device, s.device) AS device,
  e.compute_capability, coalesce(e.precision, s.precision) AS precision, e.shapes::VARCHAR AS shapes,
  coalesce(e.build_number, 0) AS build_number, e.built_at, e.peak_gpu_mem_mib, e.peak_host_mem_mib,
  u.case_key, s.workload, u.runs, u.valid_runs, u.sessions, u.last_used, u.newest_run::VARCHAR AS newest_run,
  d.latency_p50_ms, d.gpu_time_p50_ms, c.output_rel_l2, f.evidence->>'state' AS accuracy_state,
  l.run_id::VARCHAR AS layers_run, l.session_id::VARCHAR AS layers_session, l.valid AS layers_valid
FROM engines e
JOIN used u USING (engine_sha256)
JOIN series s USING (series_id)
LEFT JOIN layered l ON l.engine_sha256 = u.engine_sha256 AND l.case_key = u.case_key
LEFT JOIN medians d ON d.engine_sha256 = u.engine_sha256 AND d.case_key = u.case_key
LEFT JOIN compared c ON c.engine_sha256 = u.engine_sha256 AND c.case_key = u.case_key
LEFT JOIN findings f ON f.detector = 'limit.accuracy' AND f.session_id = c.session_id AND f.case_key = u.case_key
WHERE $prefix IS NULL OR starts_with(e.engine_sha256, $prefix)
QUALIFY row_number() OVER (PARTITION BY e.engine_sha256, u.case_key ORDER BY f.created_at DESC NULLS LAST) = 1
ORDER BY max(u.last_used) OVER (PARTITION BY e.engine_sha256) DESC, e.engine_sha256, s.workload, s.batch, u.case_key
LIMIT $limit
