-- The newest accept entry of each plan.
SELECT plan_name, arg_max(session_id, accepted_at)::VARCHAR AS session_id
FROM baselines
GROUP BY plan_name
