"""Navigation: which pages there are. Started by ``enginewatch dashboard``.

The scripts lie in ``views``: a folder ``pages`` beside this file would make Streamlit (1.67) guess a navigation of its
own for the first visitor of a new server, who then sees a page without this file having run.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

# A Material icon would be fetched from a font server on the internet; the file is served from here.
st.set_page_config(page_title="enginewatch", page_icon=str(Path(__file__).with_name("icon.svg")), layout="wide")
st.navigation(
    [
        st.Page("views/overview.py", title="Overview", icon=":material/dashboard:", default=True),
        st.Page("views/trend.py", title="Trend", icon=":material/show_chart:", url_path="trend"),
        st.Page("views/run.py", title="Run", icon=":material/speed:", url_path="run"),
        st.Page("views/engine.py", title="Engine", icon=":material/memory:", url_path="engine"),
        st.Page("views/serving.py", title="Serving", icon=":material/hub:", url_path="serving"),
        st.Page("views/runs.py", title="Runs", icon=":material/list:", url_path="runs"),
        st.Page("views/sql.py", title="SQL", icon=":material/database:", url_path="sql"),
    ],
    position="top",
).run()
