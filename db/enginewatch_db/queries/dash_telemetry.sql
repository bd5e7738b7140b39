-- Telemetry of a run, one row per device, name and point: M4 with at most 4 * $buckets points a series.
WITH wide AS (
  SELECT device, t_ns,
    cpu_util_pct::DOUBLE AS cpu_util_pct, cpu_steal_pct::DOUBLE AS cpu_steal_pct,
    cpu_freq_mhz::DOUBLE AS cpu_freq_mhz, host_mem_used_mib::DOUBLE AS host_mem_used_mib,
    sm_active_pct::DOUBLE AS sm_active_pct, sm_occupancy_pct::DOUBLE AS sm_occupancy_pct,
    tensor_active_pct::DOUBLE AS tensor_active_pct, dram_bw_pct_of_peak::DOUBLE AS dram_bw_pct_of_peak,
    fp32_active_pct::DOUBLE AS fp32_active_pct, gpu_busy_time_pct::DOUBLE AS gpu_busy_time_pct,
    mem_ctrl_busy_time_pct::DOUBLE AS mem_ctrl_busy_time_pct, power_mw / 1e3 AS power_w,
    sm_clock_mhz::DOUBLE AS sm_clock_mhz, temp_c::DOUBLE AS temp_c, gpu_mem_used_mib::DOUBLE AS gpu_mem_used_mib
  FROM telemetry WHERE run_id = $run::UUID
),
s AS (UNPIVOT wide ON COLUMNS(* EXCLUDE (device, t_ns)) INTO NAME name VALUE value),
span AS (
  SELECT device, name, count(*) AS n, min(t_ns) AS low, greatest(max(t_ns) - min(t_ns), 1) AS width
  FROM s GROUP BY device, name
),
b AS (
  SELECT s.device, s.name, s.t_ns, s.value,
    CASE WHEN n <= 4 * $buckets THEN s.t_ns
      ELSE least((s.t_ns - low) * $buckets // width, $buckets - 1) END AS bucket
  FROM s JOIN span USING (device, name)
),
m AS (
  SELECT device, name,
    min(t_ns) AS t0, arg_min(value, t_ns) AS v0, max(t_ns) AS t1, arg_max(value, t_ns) AS v1,
    arg_min(t_ns, value) AS t2, min(value) AS v2, arg_max(t_ns, value) AS t3, max(value) AS v3
  FROM b GROUP BY device, name, bucket
),
kept AS (
  SELECT device, name, t0 AS t, v0 AS v FROM m UNION SELECT device, name, t1, v1 FROM m
  UNION SELECT device, name, t2, v2 FROM m UNION SELECT device, name, t3, v3 FROM m
)
SELECT device, name, t / 1e9 AS t_s, v AS value FROM kept ORDER BY device, name, t, v
