-- The cases of a session whose outputs were wrong when it was judged last.
SELECT DISTINCT case_key
FROM verdicts
WHERE candidate_session = $session::UUID AND verdict = 'failed' AND cause = 'accuracy'
  AND judged_at = (SELECT max(judged_at) FROM verdicts WHERE candidate_session = $session::UUID)
ORDER BY case_key
