-- Every table and view with its columns, views first: they are the documented interface.
SELECT table_name AS name, CASE WHEN starts_with(table_name, 'v_') THEN 'view' ELSE 'table' END AS kind,
  string_agg(column_name || ' ' || data_type, ', ' ORDER BY column_index) AS columns
FROM duckdb_columns()
WHERE NOT internal AND database_name = current_database()
GROUP BY table_name
ORDER BY kind DESC, name
