-- One kind of measured value of a run, in ms, sorted and thinned: every n-th order statistic, and all of the tail.
WITH v AS (
  SELECT latency_ns AS value FROM latency_samples WHERE $kind = 'latency' AND run_id = $run::UUID
  UNION ALL
  SELECT ttft_ns FROM llm_requests
  WHERE $kind = 'ttft' AND run_id = $run::UUID AND status = 'ok' AND phase = 'measure' AND ttft_ns IS NOT NULL
  UNION ALL
  SELECT e2e_ns FROM llm_requests
  WHERE $kind = 'e2e' AND run_id = $run::UUID AND status = 'ok' AND phase = 'measure' AND e2e_ns IS NOT NULL
  UNION ALL
  SELECT unnest(itl_ns) FROM llm_requests
  WHERE $kind = 'itl' AND run_id = $run::UUID AND status = 'ok' AND phase = 'measure'
),
ranked AS (SELECT value, row_number() OVER (ORDER BY value) AS rank, count(*) OVER () AS n FROM v)
SELECT value / 1e6 AS value, rank, n
FROM ranked
WHERE rank = 1 OR n - rank < $tail OR rank * $points // n <> (rank - 1) * $points // n
ORDER BY rank
