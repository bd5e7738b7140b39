-- What "TensorRT for real" adds: more about layers and engines, kernels, the last good engine, speed-ups.
ALTER TABLE layers ADD COLUMN input_dtype VARCHAR;
ALTER TABLE layers ADD COLUMN output_dtype VARCHAR;
ALTER TABLE layers ADD COLUMN format VARCHAR;
ALTER TABLE layers ADD COLUMN input_shapes VARCHAR;
ALTER TABLE layers ADD COLUMN output_shapes VARCHAR;
ALTER TABLE layers ADD COLUMN input_tensors VARCHAR[];
ALTER TABLE layers ADD COLUMN output_tensors VARCHAR[];
ALTER TABLE layers ADD COLUMN origin VARCHAR[];
ALTER TABLE layers ADD COLUMN weight_bytes BIGINT;
ALTER TABLE layers ADD COLUMN bytes BIGINT;
ALTER TABLE layers ADD COLUMN flops BIGINT;
CREATE TABLE kernels (run_id UUID NOT NULL, kernel_idx INTEGER NOT NULL, name VARCHAR NOT NULL, layer VARCHAR,
  calls BIGINT, total_ns BIGINT, mean_ns BIGINT, median_ns BIGINT, min_ns BIGINT, max_ns BIGINT, time_pct DOUBLE,
  grid VARCHAR, block VARCHAR, source VARCHAR);
ALTER TABLE engines ADD COLUMN model VARCHAR;
ALTER TABLE engines ADD COLUMN model_sha256 VARCHAR;
ALTER TABLE engines ADD COLUMN backend VARCHAR;
ALTER TABLE engines ADD COLUMN tool_version VARCHAR;
ALTER TABLE engines ADD COLUMN device VARCHAR;
ALTER TABLE engines ADD COLUMN compute_capability VARCHAR;
ALTER TABLE engines ADD COLUMN precision VARCHAR;
ALTER TABLE engines ADD COLUMN shapes JSON;
ALTER TABLE engines ADD COLUMN build_number INTEGER;
ALTER TABLE engines ADD COLUMN built_at TIMESTAMPTZ;
ALTER TABLE engines ADD COLUMN peak_gpu_mem_mib DOUBLE;
ALTER TABLE engines ADD COLUMN peak_host_mem_mib DOUBLE;
ALTER TABLE runs ADD COLUMN device_uuid VARCHAR;
ALTER TABLE runs ADD COLUMN build_number INTEGER;
CREATE TABLE good_engines (plan_name VARCHAR NOT NULL, case_key VARCHAR NOT NULL, series_id UUID NOT NULL,
  engine_sha256 VARCHAR NOT NULL, session_id UUID NOT NULL, marked_at TIMESTAMPTZ NOT NULL, why VARCHAR NOT NULL);
CREATE TABLE speedups (session_id UUID NOT NULL, case_key VARCHAR NOT NULL, reference_case_key VARCHAR NOT NULL,
  metric VARCHAR NOT NULL, speedup DOUBLE NOT NULL, ci_low DOUBLE, ci_high DOUBLE, n INTEGER NOT NULL,
  computed_at TIMESTAMPTZ NOT NULL);
CREATE VIEW v_speedups AS
  SELECT u.session_id, se.label AS session_label, se.plan_name, se.started_at, u.case_key, u.reference_case_key,
    u.metric, u.speedup, u.ci_low, u.ci_high, u.n, u.computed_at
  FROM speedups u JOIN sessions se USING (session_id);
