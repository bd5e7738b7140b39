-- What was concluded about one run, or about its case in its session.
SELECT f.kind, f.severity, f.title, f.metric, f.value, f.evidence::VARCHAR AS evidence, f.remedy, f.detector,
  f.confidence, f.run_id::VARCHAR AS run_id
FROM findings f JOIN runs r ON r.run_id = $run::UUID
WHERE f.run_id = r.run_id OR (f.run_id IS NULL AND f.session_id = r.session_id AND f.case_key = r.case_key)
ORDER BY CASE f.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, f.kind, f.title
