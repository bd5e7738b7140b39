-- Ids are UUIDs: run_id and session_id sort by time; the ids of dimensions are hashes of canonical JSON.
-- Units are in the column name. Wall time is TIMESTAMPTZ (UTC); *_ns is relative to the run's origin.
-- Small tables have a PRIMARY KEY; fact tables have none and are physically ordered by run_id.
CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR NOT NULL, checksum VARCHAR NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL, app_version VARCHAR, duckdb_version VARCHAR);
CREATE TABLE ingest_ledger (run_id UUID PRIMARY KEY, bundle_name VARCHAR NOT NULL, bundle_schema INTEGER NOT NULL,
  sha256 VARCHAR NOT NULL, size_bytes BIGINT, dropped_columns VARCHAR[], ingested_at TIMESTAMPTZ NOT NULL);
CREATE TABLE quarantine (bundle_name VARCHAR NOT NULL, reason VARCHAR NOT NULL, seen_at TIMESTAMPTZ NOT NULL);

CREATE TABLE metric_defs (metric VARCHAR PRIMARY KEY, unit VARCHAR NOT NULL, direction VARCHAR NOT NULL,
  kind VARCHAR NOT NULL, gated BOOLEAN NOT NULL, description VARCHAR NOT NULL);
CREATE TABLE sessions (session_id UUID PRIMARY KEY, plan_name VARCHAR NOT NULL, plan_sha256 VARCHAR, label VARCHAR,
  started_at TIMESTAMPTZ NOT NULL, seed BIGINT, repeats INTEGER, host_id UUID, env_id UUID,
  git_commit VARCHAR, git_branch VARCHAR, git_dirty BOOLEAN, trigger VARCHAR, details JSON);
CREATE TABLE series (series_id UUID PRIMARY KEY, scenario_id UUID NOT NULL, identity_version INTEGER NOT NULL,
  case_key VARCHAR NOT NULL, workload VARCHAR NOT NULL, model VARCHAR NOT NULL, backend VARCHAR NOT NULL,
  precision VARCHAR NOT NULL, device VARCHAR NOT NULL, device_count INTEGER NOT NULL, batch INTEGER,
  concurrency INTEGER, load_mode VARCHAR, identity JSON NOT NULL);
CREATE TABLE environments (env_id UUID PRIMARY KEY, facets JSON NOT NULL);
CREATE TABLE hosts (host_id UUID PRIMARY KEY, hostname VARCHAR NOT NULL, details JSON);
CREATE TABLE engines (engine_sha256 VARCHAR PRIMARY KEY, engine_key VARCHAR NOT NULL, path VARCHAR, size_bytes BIGINT,
  build_time_s DOUBLE, realised_precision VARCHAR, fingerprint VARCHAR, details JSON, first_run_id UUID);

CREATE TABLE runs (run_id UUID PRIMARY KEY, session_id UUID NOT NULL, series_id UUID NOT NULL, env_id UUID NOT NULL,
  host_id UUID NOT NULL, engine_sha256 VARCHAR, engine_cached BOOLEAN, plan_name VARCHAR NOT NULL,
  case_key VARCHAR NOT NULL, repeat INTEGER NOT NULL, order_idx INTEGER NOT NULL, status VARCHAR NOT NULL,
  valid BOOLEAN NOT NULL, reason_codes VARCHAR[], failure_code VARCHAR, failure_message VARCHAR,
  failure_remedy VARCHAR, started_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ, realised_precision VARCHAR,
  quality JSON, devices JSON, provenance JSON, stage_s JSON);
CREATE TABLE run_reasons (run_id UUID NOT NULL, code VARCHAR NOT NULL, effect VARCHAR NOT NULL, detail VARCHAR);
CREATE TABLE run_phases (run_id UUID NOT NULL, phase VARCHAR NOT NULL, start_ns BIGINT NOT NULL,
  end_ns BIGINT NOT NULL);
CREATE TABLE run_metrics (run_id UUID NOT NULL, metric VARCHAR NOT NULL, value DOUBLE, ci_low DOUBLE, ci_high DOUBLE,
  n BIGINT, absent_reason VARCHAR, source VARCHAR);

CREATE TABLE latency_samples (run_id UUID NOT NULL, start_ns BIGINT NOT NULL, latency_ns BIGINT NOT NULL,
  gpu_ns BIGINT, h2d_ns BIGINT, d2h_ns BIGINT, stream SMALLINT);
CREATE TABLE llm_requests (run_id UUID NOT NULL, request_idx INTEGER NOT NULL, stream INTEGER, phase VARCHAR NOT NULL,
  status VARCHAR NOT NULL, error_class VARCHAR, error VARCHAR, http_status SMALLINT, finish_reason VARCHAR,
  new_connection BOOLEAN, intended_at_ns BIGINT, sent_at_ns BIGINT, first_byte_at_ns BIGINT, ttft_ns BIGINT,
  e2e_ns BIGINT, tpot_ns BIGINT, connect_ns BIGINT, prompt_tokens INTEGER, output_tokens INTEGER,
  content_events INTEGER, itl_ns BIGINT[]);
CREATE TABLE telemetry (run_id UUID NOT NULL, t_ns BIGINT NOT NULL, source VARCHAR NOT NULL, device VARCHAR NOT NULL,
  phase VARCHAR, cpu_util_pct FLOAT, cpu_util_core_pct FLOAT[], cpu_freq_mhz FLOAT, host_mem_used_mib INTEGER,
  host_load_1m FLOAT, cpu_steal_pct FLOAT, graphics_active_pct FLOAT, sm_active_pct FLOAT, sm_occupancy_pct FLOAT,
  tensor_active_pct FLOAT, dram_bw_pct_of_peak FLOAT, fp32_active_pct FLOAT, fp16_active_pct FLOAT,
  pcie_tx_mib_s FLOAT, pcie_rx_mib_s FLOAT, gpu_busy_time_pct FLOAT, mem_ctrl_busy_time_pct FLOAT, power_mw INTEGER,
  energy_mj BIGINT, sm_clock_mhz INTEGER, mem_clock_mhz INTEGER, temp_c SMALLINT, mem_temp_c SMALLINT,
  clock_event_reasons UBIGINT, gpu_mem_used_mib INTEGER, power_capped_ns BIGINT, thermal_throttle_ns BIGINT);
CREATE TABLE layers (run_id UUID NOT NULL, layer_idx INTEGER NOT NULL, name VARCHAR NOT NULL, layer_type VARCHAR,
  tactic VARCHAR, dtype VARCHAR, calls BIGINT, mean_ns BIGINT, median_ns BIGINT, time_pct DOUBLE, source VARCHAR);

CREATE TABLE baselines (plan_name VARCHAR NOT NULL, session_id UUID NOT NULL, accepted_at TIMESTAMPTZ NOT NULL,
  accepted_by VARCHAR, reason VARCHAR NOT NULL);
CREATE TABLE verdicts (candidate_session UUID NOT NULL, baseline_session UUID, case_key VARCHAR NOT NULL,
  series_id UUID, metric VARCHAR NOT NULL, verdict VARCHAR NOT NULL, why VARCHAR NOT NULL, baseline_value DOUBLE,
  candidate_value DOUBLE, effect_rel DOUBLE, effect_ci_low DOUBLE, effect_ci_high DOUBLE, confidence DOUBLE,
  n_baseline INTEGER, n_candidate INTEGER, threshold_rel DOUBLE, method VARCHAR, cause VARCHAR, notes VARCHAR[],
  judged_at TIMESTAMPTZ NOT NULL);
CREATE TABLE findings (finding_id UUID NOT NULL, kind VARCHAR NOT NULL, severity VARCHAR NOT NULL,
  title VARCHAR NOT NULL, session_id UUID NOT NULL, case_key VARCHAR, run_id UUID, metric VARCHAR, value DOUBLE,
  evidence JSON, remedy VARCHAR, detector VARCHAR NOT NULL, confidence VARCHAR, created_at TIMESTAMPTZ NOT NULL);
CREATE TABLE finding_events (event_id UUID PRIMARY KEY, finding_id UUID NOT NULL, event_at TIMESTAMPTZ NOT NULL,
  actor VARCHAR, event_kind VARCHAR NOT NULL, note VARCHAR);
