"""Telemetry of enginewatch: a sampler in its own process."""
