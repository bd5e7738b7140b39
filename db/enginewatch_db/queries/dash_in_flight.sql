-- Requests in flight as the client saw them, from start to last content, at most 4 * $buckets points: first, smallest,
-- largest and last of each bucket of time (M4). A request that failed has no end and is not counted.
WITH r AS (
  SELECT coalesce(intended_at_ns, sent_at_ns - coalesce(connect_ns, 0)) AS start_ns, e2e_ns
  FROM llm_requests WHERE run_id = $run::UUID AND e2e_ns IS NOT NULL
),
steps AS (SELECT start_ns AS t, 1 AS step FROM r UNION ALL SELECT start_ns + e2e_ns, -1 FROM r),
moments AS (SELECT t, sum(step) AS step FROM steps WHERE t IS NOT NULL GROUP BY t),
s AS (SELECT t, sum(step) OVER (ORDER BY t) AS v FROM moments),
span AS (SELECT count(*) AS n, min(t) AS low, greatest(max(t) - min(t), 1) AS width FROM s),
b AS (
  SELECT t, v,
    CASE WHEN n <= 4 * $buckets THEN t ELSE least((t - low) * $buckets // width, $buckets - 1) END AS bucket
  FROM s, span
),
m AS (
  SELECT min(t) AS t0, arg_min(v, t) AS v0, max(t) AS t1, arg_max(v, t) AS v1,
    arg_min(t, v) AS t2, min(v) AS v2, arg_max(t, v) AS t3, max(v) AS v3
  FROM b GROUP BY bucket
),
kept AS (
  SELECT t0 AS t, v0 AS v FROM m UNION SELECT t1, v1 FROM m UNION SELECT t2, v2 FROM m UNION SELECT t3, v3 FROM m
)
SELECT t / 1e9 AS t_s, v::DOUBLE AS value FROM kept ORDER BY t, v
