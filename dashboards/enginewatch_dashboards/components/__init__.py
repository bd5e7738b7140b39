"""Pieces of pages: the only place but the pages themselves where Streamlit draws."""
