-- All that is known about one run, but its samples.
SELECT
  r.run_id::VARCHAR AS run_id, r.session_id::VARCHAR AS session_id, r.series_id::VARCHAR AS series_id,
  r.plan_name, r.case_key, r.repeat, r.order_idx, r.status, r.valid, r.failure_code, r.failure_message,
  r.failure_remedy, r.started_at, r.ended_at, r.realised_precision, r.engine_cached,
  r.quality::VARCHAR AS quality, r.devices::VARCHAR AS devices, r.provenance::VARCHAR AS provenance,
  r.stage_s::VARCHAR AS stage_s,
  s.model, s.workload, s.backend, s.precision, s.device, s.device_count, s.batch, s.concurrency, s.load_mode,
  s.identity::VARCHAR AS identity,
  se.label, se.started_at AS session_started_at, se.git_commit, se.git_branch, se.git_dirty, se.trigger, se.repeats,
  se.details::VARCHAR AS session_details,
  h.hostname, h.details::VARCHAR AS host, e.facets::VARCHAR AS environment,
  r.engine_sha256, en.path AS engine_path, en.size_bytes AS engine_size_bytes, en.build_time_s,
  en.fingerprint, en.details::VARCHAR AS engine_details,
  l.bundle_name, l.sha256 AS bundle_sha256, l.ingested_at
FROM runs r
JOIN series s USING (series_id)
JOIN sessions se ON se.session_id = r.session_id
JOIN hosts h ON h.host_id = r.host_id
JOIN environments e ON e.env_id = r.env_id
LEFT JOIN engines en ON en.engine_sha256 = r.engine_sha256
LEFT JOIN ingest_ledger l ON l.run_id = r.run_id
WHERE r.run_id = $run::UUID
