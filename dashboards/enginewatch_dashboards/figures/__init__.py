"""Figure builders: rows and arrays in, ``plotly.graph_objects.Figure`` out. No Streamlit, no database, no clock."""
