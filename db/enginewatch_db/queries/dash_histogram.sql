-- One kind of measured value of a run counted in $bins equal bins up to its 99.5 % quantile; what lies above is the
-- last bin (bin = $bins), so that one outlier does not flatten the rest.
WITH v AS (
  SELECT latency_ns AS value FROM latency_samples WHERE $kind = 'latency' AND run_id = $run::UUID
  UNION ALL
  SELECT ttft_ns FROM llm_requests
  WHERE $kind = 'ttft' AND run_id = $run::UUID AND status = 'ok' AND phase = 'measure' AND ttft_ns IS NOT NULL
  UNION ALL
  SELECT unnest(itl_ns) FROM llm_requests
  WHERE $kind = 'itl' AND run_id = $run::UUID AND status = 'ok' AND phase = 'measure'
),
r AS (
  SELECT min(value) AS low, greatest(quantile_disc(value, 0.995), min(value) + 1) AS high, max(value) AS top FROM v
)
SELECT
  CASE WHEN value > high THEN $bins ELSE least((value - low) * $bins // (high - low), $bins - 1) END AS bin,
  count(*) AS n, any_value(low) / 1e6 AS low, any_value(high) / 1e6 AS high, any_value(top) / 1e6 AS top
FROM v, r
GROUP BY bin
ORDER BY bin
