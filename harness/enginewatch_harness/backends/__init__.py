"""The tools that build and execute."""
