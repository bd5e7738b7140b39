-- The requests of a run for the timeline: every n-th by send time, the slowest, and those that failed; at most
-- $limit + $slowest + $failed of them.
WITH r AS (
  SELECT request_idx, stream, phase, status, error_class, sent_at_ns, intended_at_ns, ttft_ns, e2e_ns, output_tokens,
    row_number() OVER (ORDER BY sent_at_ns, request_idx) AS place,
    row_number() OVER (ORDER BY e2e_ns DESC NULLS LAST, request_idx) AS slowness,
    row_number() OVER (PARTITION BY status ORDER BY sent_at_ns, request_idx) AS of_status,
    count(*) OVER () AS n
  FROM llm_requests WHERE run_id = $run::UUID AND sent_at_ns IS NOT NULL
)
SELECT request_idx, stream, phase, status, error_class, place, n, sent_at_ns / 1e9 AS sent_s,
  (sent_at_ns + ttft_ns) / 1e9 AS first_s, (sent_at_ns + e2e_ns) / 1e9 AS end_s, ttft_ns / 1e6 AS ttft_ms,
  e2e_ns / 1e6 AS e2e_ms, output_tokens
FROM r
WHERE n <= $limit OR place * $limit // n <> (place - 1) * $limit // n OR slowness <= $slowest
  OR (status <> 'ok' AND of_status <= $failed)
ORDER BY place
