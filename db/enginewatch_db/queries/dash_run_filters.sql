-- The values that runs can be filtered by.
SELECT DISTINCT s.workload, s.backend, s.precision FROM runs r JOIN series s USING (series_id) ORDER BY ALL
