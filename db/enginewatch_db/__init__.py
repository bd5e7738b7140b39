"""Vocabulary and storage of enginewatch. Importing it does not import DuckDB."""

__version__ = "0.1.0"
