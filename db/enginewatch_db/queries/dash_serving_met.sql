-- Requests of the measuring phase of some runs that met a limit of $slo_ms on $kind: ttft, tpot, e2e, or itl (the
-- request's largest gap). A failed request misses, as in the definition of goodput; an answer of one token has no gap
-- that could be too long.
SELECT run_id::VARCHAR AS run_id, count(*) AS n,
  count(*) FILTER (WHERE status = 'ok' AND CASE $kind
    WHEN 'ttft' THEN ttft_ns
    WHEN 'e2e' THEN e2e_ns
    WHEN 'tpot' THEN coalesce(tpot_ns, CASE WHEN output_tokens = 1 AND ttft_ns IS NOT NULL THEN 0 END)
    WHEN 'itl' THEN CASE WHEN itl_ns IS NOT NULL THEN coalesce(list_max(itl_ns), 0) END END <= $slo_ms * 1e6) AS met
FROM llm_requests
WHERE phase = 'measure' AND run_id IN (SELECT unnest($runs)::UUID)
GROUP BY run_id
