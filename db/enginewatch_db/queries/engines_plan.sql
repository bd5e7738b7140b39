-- The plan of a session, as it was then.
SELECT plan_name, plan_sha256, details->>'plan_text' AS plan_text, details->>'plan_path' AS plan_path,
  details->>'policy_text' AS policy_text,
  epoch_us(started_at) AS started_us
FROM sessions WHERE session_id = $session::UUID
