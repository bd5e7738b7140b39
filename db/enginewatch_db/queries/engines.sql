-- All engines of the store with how often they were used. Times as epochs: DuckDB wants pytz for TIMESTAMPTZ.
-- What the engine's own columns lack (stores of before they were there; TensorRT 8.6 crashes before it tells a build's
-- layers) is taken from its runs.
WITH used AS (
  SELECT r.engine_sha256, count(*) AS runs, count(*) FILTER (r.valid) AS valid_runs,
    count(DISTINCT r.session_id) AS sessions, list(DISTINCT r.case_key ORDER BY r.case_key) AS cases,
    list(DISTINCT r.plan_name ORDER BY r.plan_name) AS plans, min(r.started_at) AS first_used,
    max(r.started_at) AS last_used, any_value(s.model) AS model, any_value(s.backend) AS backend,
    any_value(s.precision) AS precision, any_value(s.device) AS device,
    any_value(r.realised_precision) AS realised_precision
  FROM runs r JOIN series s USING (series_id)
  WHERE r.engine_sha256 IS NOT NULL
  GROUP BY r.engine_sha256
)
SELECT e.engine_sha256, e.engine_key, e.path, e.size_bytes, e.build_time_s,
  coalesce(e.realised_precision, u.realised_precision) AS realised_precision, e.fingerprint, e.details,
  coalesce(e.model, u.model) AS model, e.model_sha256, coalesce(e.backend, u.backend) AS backend,
  e.tool_version, coalesce(e.device, u.device) AS device, e.compute_capability,
  coalesce(e.precision, u.precision) AS precision, e.shapes, coalesce(e.build_number, 0) AS build_number,
  epoch_us(e.built_at) AS built_us, e.peak_gpu_mem_mib, e.peak_host_mem_mib, coalesce(u.runs, 0) AS runs,
  coalesce(u.valid_runs, 0) AS valid_runs, coalesce(u.sessions, 0) AS sessions, coalesce(u.cases, []) AS cases,
  coalesce(u.plans, []) AS plans, epoch_us(u.first_used) AS first_used_us, epoch_us(u.last_used) AS last_used_us
FROM engines e
LEFT JOIN used u USING (engine_sha256)
ORDER BY last_used_us DESC NULLS LAST, e.engine_key, build_number
