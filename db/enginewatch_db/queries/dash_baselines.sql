-- Sessions that were accepted as baseline, newest entry first.
SELECT plan_name, session_id::VARCHAR AS session_id, accepted_at, accepted_by, reason
FROM baselines
ORDER BY accepted_at DESC
