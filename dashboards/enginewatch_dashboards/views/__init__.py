"""The pages, one script each; Streamlit runs them. Not called ``pages``: see ``app.py``."""
