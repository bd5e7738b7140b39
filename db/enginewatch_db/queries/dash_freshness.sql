-- How much is in the store, how new it is, and of which schema.
SELECT
  (SELECT count(*) FROM runs) AS runs,
  (SELECT count(*) FROM sessions) AS sessions,
  (SELECT max(coalesce(ended_at, started_at)) FROM runs) AS newest_end,
  (SELECT max(ingested_at) FROM ingest_ledger) AS newest_ingest,
  (SELECT count(*) FROM quarantine) AS quarantined,
  (SELECT max(version) FROM schema_migrations) AS schema_version
