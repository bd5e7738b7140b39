-- Tables, views and columns of the store, with the number of rows of each table.
SELECT c.table_name, coalesce(v.view_name IS NOT NULL, false) AS is_view, c.column_name, c.data_type,
  t.estimated_size AS n_rows
FROM duckdb_columns() c
LEFT JOIN duckdb_views() v
  ON v.database_name = c.database_name AND v.schema_name = c.schema_name AND v.view_name = c.table_name
LEFT JOIN duckdb_tables() t
  ON t.database_name = c.database_name AND t.schema_name = c.schema_name AND t.table_name = c.table_name
WHERE c.database_name = current_database() AND NOT c.internal
ORDER BY is_view DESC, c.table_name, c.column_index
