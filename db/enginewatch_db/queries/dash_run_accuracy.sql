-- What is known of the accuracy of a run's engine: the finding about its case in its session, and the runs of the same
-- engine and case there whose outputs were compared.
SELECT f.evidence::VARCHAR AS evidence, f.title, f.remedy, o.run_id::VARCHAR AS run_id, o.repeat
FROM runs r
LEFT JOIN findings f
  ON f.detector = 'limit.accuracy' AND f.session_id = r.session_id AND f.case_key = r.case_key
LEFT JOIN (
  SELECT r.run_id, r.repeat, r.session_id, r.case_key, r.engine_sha256
  FROM runs r JOIN run_metrics m USING (run_id) WHERE m.metric = 'output_rel_l2' AND m.value IS NOT NULL
) o ON o.session_id = r.session_id AND o.case_key = r.case_key AND o.engine_sha256 IS NOT DISTINCT FROM r.engine_sha256
WHERE r.run_id = $run::UUID
ORDER BY f.created_at DESC NULLS LAST, o.repeat
LIMIT 1
