-- The values that runs can be filtered by, and the cases of each combination.
SELECT s.workload, s.backend, s.precision, list_sort(list(DISTINCT r.case_key)) AS cases
FROM runs r JOIN series s USING (series_id)
GROUP BY ALL ORDER BY ALL
