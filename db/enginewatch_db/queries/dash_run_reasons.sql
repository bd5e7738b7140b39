-- Why a run must not count, or counts with care.
SELECT code, effect, detail FROM run_reasons WHERE run_id = $run::UUID ORDER BY effect, code
