-- The layers of a run in order of execution.
SELECT * EXCLUDE (run_id) FROM layers WHERE run_id = $run::UUID ORDER BY layer_idx, name
