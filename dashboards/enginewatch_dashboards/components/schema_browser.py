"""Tables, views and columns of the store, to read beside the SQL editor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from enginewatch_dashboards import format as fmt


def schema_browser(rows: Sequence[dict[str, Any]]) -> None:
    """Draw each view and table with its columns, folded.

    Args:
        rows: Rows of the query ``schema``.
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        tables.setdefault(row["table_name"], []).append(row)
    with st.expander(f"Tables and views ({len(tables)})", key="sql_schema"):
        st.caption("Views (v_…) are the stable way in; units are in the column names.")
        for name, columns in tables.items():
            first = columns[0]
            kind = "view" if first["is_view"] else fmt.count(first["n_rows"] or 0, "row")
            listed = "  \n".join(
                f"`{column['column_name']}` :gray[{column['data_type'].lower()}]" for column in columns
            )
            with st.expander(f"{name} · {kind}", key=f"sql_schema_{name}", type="compact"):
                st.markdown(listed)
