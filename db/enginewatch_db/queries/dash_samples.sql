-- The samples of a run in their order, at most 4 * $buckets: first, smallest, largest and last of each bucket of time
-- (M4: U. Jugel et al., "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014). Spikes survive.
WITH s AS (SELECT start_ns, latency_ns FROM latency_samples WHERE run_id = $run::UUID),
span AS (SELECT count(*) AS n, min(start_ns) AS low, greatest(max(start_ns) - min(start_ns), 1) AS width FROM s),
b AS (
  SELECT start_ns, latency_ns,
    CASE WHEN n <= 4 * $buckets THEN start_ns
      ELSE least((start_ns - low) * $buckets // width, $buckets - 1) END AS bucket
  FROM s, span
),
m AS (
  SELECT
    min(start_ns) AS t0, arg_min(latency_ns, start_ns) AS v0, max(start_ns) AS t1, arg_max(latency_ns, start_ns) AS v1,
    arg_min(start_ns, latency_ns) AS t2, min(latency_ns) AS v2, arg_max(start_ns, latency_ns) AS t3,
    max(latency_ns) AS v3
  FROM b GROUP BY bucket
),
kept AS (
  SELECT t0 AS t, v0 AS v FROM m UNION SELECT t1, v1 FROM m UNION SELECT t2, v2 FROM m UNION SELECT t3, v3 FROM m
)
SELECT t / 1e9 AS t_s, v / 1e6 AS value FROM kept ORDER BY t, v
