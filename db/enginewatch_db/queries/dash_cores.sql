-- Utilisation of each CPU core of a run: the largest value in each of $bins slots of time.
WITH s AS (
  SELECT t_ns, unnest(cpu_util_core_pct)::DOUBLE AS value, generate_subscripts(cpu_util_core_pct, 1) - 1 AS core
  FROM telemetry WHERE run_id = $run::UUID AND cpu_util_core_pct IS NOT NULL
),
span AS (SELECT min(t_ns) AS low, greatest(max(t_ns) - min(t_ns), 1) AS width FROM s)
SELECT core, least((t_ns - low) * $bins // width, $bins - 1) AS slot, max(value) AS value,
  any_value(low) / 1e9 AS low_s, any_value(low + width) / 1e9 AS high_s
FROM s, span
GROUP BY core, slot
ORDER BY core, slot
