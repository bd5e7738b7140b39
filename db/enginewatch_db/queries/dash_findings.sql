-- Findings of some sessions, worst first, with the newest event of each.
SELECT
  f.finding_id::VARCHAR AS finding_id, f.kind, f.severity, f.title, f.session_id::VARCHAR AS session_id, f.case_key,
  f.run_id::VARCHAR AS run_id, f.metric, f.value, f.evidence::VARCHAR AS evidence, f.remedy, f.detector, f.confidence,
  f.created_at, f.state
FROM v_findings f
WHERE f.session_id IN (SELECT unnest($sessions)::UUID)
ORDER BY CASE f.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, f.kind, f.case_key, f.metric
