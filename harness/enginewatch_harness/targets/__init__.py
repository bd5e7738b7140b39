"""Servers that a load goes to: launched or found, recognised, and watched while they work."""
