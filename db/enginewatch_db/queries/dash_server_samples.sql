-- What a server said about itself during a run, one row per name and point: M4 with at most 4 * $buckets points a name.
-- Counters become rates between two scrapes; where a counter ran backwards (the server was restarted) there is none.
WITH raw AS (
  SELECT source, t_ns, requests_running, requests_waiting, kv_cache_used_pct, batch_size, iteration_ns,
    (t_ns - lag(t_ns) OVER w) / 1e9 AS dt_s,
    preemptions - lag(preemptions) OVER w AS preempted,
    prefix_query_tokens - lag(prefix_query_tokens) OVER w AS asked,
    prefix_hit_tokens - lag(prefix_hit_tokens) OVER w AS hit,
    queue_time_ns - lag(queue_time_ns) OVER w AS queued_ns,
    queue_count - lag(queue_count) OVER w AS queued,
    output_tokens - lag(output_tokens) OVER w AS made
  FROM server_samples WHERE run_id = $run::UUID
  WINDOW w AS (PARTITION BY source ORDER BY t_ns)
),
wide AS (
  SELECT source, t_ns,
    requests_running::DOUBLE AS requests_running, requests_waiting::DOUBLE AS requests_waiting,
    kv_cache_used_pct::DOUBLE AS kv_cache_used_pct, batch_size::DOUBLE AS batch_size,
    iteration_ns / 1e6 AS iteration_ms,
    CASE WHEN preempted >= 0 AND dt_s > 0 THEN preempted / dt_s END AS preemptions_per_s,
    CASE WHEN hit >= 0 AND asked > 0 THEN least(hit / asked, 1) * 100 END AS prefix_hit_pct,
    CASE WHEN queued_ns >= 0 AND queued > 0 THEN queued_ns / queued / 1e6 END AS queue_ms,
    CASE WHEN made >= 0 AND dt_s > 0 THEN made / dt_s END AS server_tokens_s
  FROM raw
),
s AS (UNPIVOT wide ON COLUMNS(* EXCLUDE (source, t_ns)) INTO NAME name VALUE value),
span AS (
  SELECT source, name, count(*) AS n, min(t_ns) AS low, greatest(max(t_ns) - min(t_ns), 1) AS width
  FROM s GROUP BY source, name
),
b AS (
  SELECT s.source, s.name, s.t_ns, s.value,
    CASE WHEN n <= 4 * $buckets THEN s.t_ns
      ELSE least((s.t_ns - low) * $buckets // width, $buckets - 1) END AS bucket
  FROM s JOIN span USING (source, name)
),
m AS (
  SELECT source, name,
    min(t_ns) AS t0, arg_min(value, t_ns) AS v0, max(t_ns) AS t1, arg_max(value, t_ns) AS v1,
    arg_min(t_ns, value) AS t2, min(value) AS v2, arg_max(t_ns, value) AS t3, max(value) AS v3
  FROM b GROUP BY source, name, bucket
),
kept AS (
  SELECT source, name, t0 AS t, v0 AS v FROM m UNION SELECT source, name, t1, v1 FROM m
  UNION SELECT source, name, t2, v2 FROM m UNION SELECT source, name, t3, v3 FROM m
)
SELECT source AS device, name, t / 1e9 AS t_s, v AS value FROM kept ORDER BY device, name, t, v
