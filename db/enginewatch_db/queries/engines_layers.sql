-- The layers of one run.
SELECT * EXCLUDE (run_id) FROM layers WHERE run_id = $run::UUID ORDER BY layer_idx
