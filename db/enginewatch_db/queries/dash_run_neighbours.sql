-- The runs of the same series (or, without a result, of the same case) before and after one run.
WITH me AS (SELECT series_id, case_key, status, started_at, run_id FROM runs WHERE run_id = $run::UUID),
line AS (
  SELECT r.run_id, r.started_at FROM runs r, me
  WHERE r.series_id = me.series_id OR (r.case_key = me.case_key AND r.status <> 'ok')
)
SELECT
  (SELECT arg_max(l.run_id, (l.started_at, l.run_id)) FROM line l, me
    WHERE (l.started_at, l.run_id) < (me.started_at, me.run_id))::VARCHAR AS before,
  (SELECT arg_min(l.run_id, (l.started_at, l.run_id)) FROM line l, me
    WHERE (l.started_at, l.run_id) > (me.started_at, me.run_id))::VARCHAR AS after,
  (SELECT arg_max(l.run_id, (l.started_at, l.run_id)) FROM line l)::VARCHAR AS newest,
  (SELECT count(*) FROM line) AS n,
  (SELECT count(*) FROM line l, me WHERE (l.started_at, l.run_id) <= (me.started_at, me.run_id)) AS position
