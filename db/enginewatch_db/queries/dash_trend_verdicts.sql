-- What was concluded about one case and metric, by candidate session.
SELECT
  v.candidate_session::VARCHAR AS session_id, v.baseline_session::VARCHAR AS baseline_session, v.verdict, v.why,
  v.effect_rel, v.effect_ci_low, v.effect_ci_high, v.n_baseline, v.n_candidate, v.threshold_rel, v.cause
FROM verdicts v
WHERE v.case_key = $case AND v.metric = $metric
QUALIFY row_number() OVER (PARTITION BY v.candidate_session ORDER BY v.judged_at DESC) = 1
