-- The facets of some environments.
SELECT env_id::VARCHAR AS env_id, facets::VARCHAR AS facets
FROM environments
WHERE env_id IN (SELECT unnest($environments)::UUID)
