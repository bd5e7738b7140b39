-- The values that load runs can be filtered by.
SELECT DISTINCT s.workload, s.model, s.device, s.precision
FROM runs r JOIN series s USING (series_id)
WHERE r.status = 'ok' AND s.load_mode IS NOT NULL
ORDER BY ALL
