-- The command that the newest run of an engine in a case was made with; NULL where its backend has none.
SELECT provenance->>'command' AS command
FROM runs
WHERE engine_sha256 = $engine AND case_key = $case AND status = 'ok'
ORDER BY run_id DESC LIMIT 1
