"""Streamlit pages of enginewatch over pure figure builders."""
