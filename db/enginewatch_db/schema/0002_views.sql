-- The documented views: docs/schema.md describes every column.
CREATE VIEW v_runs AS
  SELECT r.run_id, r.session_id, se.label AS session_label, r.plan_name, r.case_key, s.workload, s.model, s.backend,
    s.precision, r.realised_precision, s.device, s.batch, s.concurrency, s.load_mode, r.repeat, r.order_idx, r.status,
    r.valid, r.reason_codes, r.failure_code, r.failure_message, r.failure_remedy, r.started_at, r.ended_at,
    r.engine_sha256, r.engine_cached, se.git_commit, se.git_branch, h.hostname, r.series_id, r.env_id
  FROM runs r JOIN series s USING (series_id) JOIN sessions se USING (session_id) JOIN hosts h ON h.host_id = r.host_id;
CREATE VIEW v_metrics AS
  SELECT m.run_id, r.session_id, r.plan_name, r.case_key, r.repeat, r.started_at, r.valid, m.metric, m.value, m.ci_low,
    m.ci_high, m.n, d.unit, d.direction, d.kind, m.source, m.absent_reason, r.series_id
  FROM run_metrics m JOIN runs r USING (run_id) LEFT JOIN metric_defs d USING (metric);
CREATE VIEW v_telemetry AS
  SELECT r.session_id, r.case_key, r.repeat, r.started_at + to_microseconds(t.t_ns // 1000) AS at_utc, t.*
  FROM telemetry t JOIN runs r USING (run_id);
CREATE VIEW v_findings AS
  SELECT f.*, e.event_kind AS state, e.event_at AS state_at
  FROM findings f LEFT JOIN (
    SELECT finding_id, arg_max(event_kind, event_at) AS event_kind, max(event_at) AS event_at
    FROM finding_events GROUP BY finding_id) e USING (finding_id);
