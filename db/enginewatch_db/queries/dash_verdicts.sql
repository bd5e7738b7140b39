-- The newest judgement of each case and metric of some candidate sessions.
SELECT
  v.candidate_session::VARCHAR AS session_id, v.baseline_session::VARCHAR AS baseline_session,
  b.label AS baseline_label, b.started_at AS baseline_started_at,
  v.case_key, v.series_id::VARCHAR AS series_id, s.model, s.device, v.metric, v.verdict, v.why, v.baseline_value,
  v.candidate_value, v.effect_rel, v.effect_ci_low, v.effect_ci_high, v.confidence, v.n_baseline, v.n_candidate,
  v.threshold_rel, v.method, v.cause, v.notes, v.judged_at
FROM verdicts v
LEFT JOIN series s ON s.series_id = v.series_id
LEFT JOIN sessions b ON b.session_id = v.baseline_session
WHERE v.candidate_session IN (SELECT unnest($sessions)::UUID)
QUALIFY row_number() OVER (PARTITION BY v.candidate_session, v.case_key, v.metric ORDER BY v.judged_at DESC) = 1
ORDER BY v.case_key, v.metric
