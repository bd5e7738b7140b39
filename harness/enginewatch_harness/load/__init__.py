"""The LLM load generator."""
