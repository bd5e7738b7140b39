-- One kind of measured value of a run counted in $bins bins up to its 99.5 % quantile, equally wide on a linear or
-- (with $log) a logarithmic axis, which begins at the 0.5 % quantile. What lies above is bin $bins, what lies below is
-- bin -1: so one outlier does not flatten the rest.
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
-- A logarithm needs a floor: 10 µs, below which two token gaps are one read of the network.
lows AS (SELECT CASE WHEN $log THEN greatest(quantile_disc(value, 0.005), 10_000) ELSE min(value) END AS low FROM v),
r AS (SELECT any_value(low) AS low, greatest(quantile_disc(value, 0.995), any_value(low) + 1) AS high FROM v, lows),
placed AS (
  SELECT value, low, high,
    CASE
      WHEN value < low THEN -1
      WHEN value > high THEN $bins
      WHEN $log THEN least(floor(ln(value / low) / ln(high / low) * $bins), $bins - 1)
      ELSE least((value - low) * $bins // (high - low), $bins - 1)
    END::INTEGER AS bin
  FROM v, r
)
SELECT bin, count(*) AS n, any_value(low) / 1e6 AS low, any_value(high) / 1e6 AS high,
  min(min(value)) OVER () / 1e6 AS smallest, max(max(value)) OVER () / 1e6 AS largest
FROM placed
GROUP BY bin
ORDER BY bin
