"""Recorded runs of one NVIDIA H200, loaded into a store of their own."""
