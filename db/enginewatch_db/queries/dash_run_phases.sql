-- The phases of a run in their order, in seconds from its origin.
SELECT phase, start_ns / 1e9 AS start_s, end_ns / 1e9 AS end_s
FROM run_phases
WHERE run_id = $run::UUID
ORDER BY start_ns, end_ns
