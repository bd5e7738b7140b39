-- How the newest run of an engine was made: command, versions, what the tool said.
SELECT r.provenance, f.facets
FROM runs r LEFT JOIN environments f USING (env_id)
WHERE r.engine_sha256 = $engine AND r.status = 'ok'
ORDER BY r.run_id DESC LIMIT 1
