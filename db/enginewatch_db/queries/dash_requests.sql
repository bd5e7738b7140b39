-- The requests of a run for the timeline: every n-th by start, the slowest, and those that failed; at most
-- $limit + $slowest + $failed of them. A latency counts from the start: when the request was due (open loop), else when
-- its connection was opened.
WITH r AS (
  SELECT *, coalesce(intended_at_ns, sent_at_ns - coalesce(connect_ns, 0)) AS start_ns
  FROM llm_requests WHERE run_id = $run::UUID AND coalesce(intended_at_ns, sent_at_ns) IS NOT NULL
),
ranked AS (
  SELECT *,
    row_number() OVER (ORDER BY start_ns, request_idx) AS place,
    row_number() OVER (ORDER BY e2e_ns DESC NULLS LAST, request_idx) AS slowness,
    row_number() OVER (PARTITION BY status ORDER BY start_ns, request_idx) AS of_status,
    count(*) OVER () AS n
  FROM r
)
SELECT request_idx, stream, process, session, turn, phase, status, error_class, http_status, new_connection, place, n,
  start_ns / 1e9 AS start_s, coalesce(sent_at_ns, start_ns) / 1e9 AS sent_s, (start_ns + ttft_ns) / 1e9 AS first_s,
  (start_ns + e2e_ns) / 1e9 AS end_s, (sent_at_ns - start_ns) / 1e6 AS late_ms, ttft_ns / 1e6 AS ttft_ms,
  e2e_ns / 1e6 AS e2e_ms, tpot_ns / 1e6 AS tpot_ms, prompt_tokens, cached_prompt_tokens, output_tokens
FROM ranked
WHERE n <= $limit OR place * $limit // n <> (place - 1) * $limit // n OR slowness <= $slowest
  OR (status <> 'ok' AND of_status <= $failed)
ORDER BY place
