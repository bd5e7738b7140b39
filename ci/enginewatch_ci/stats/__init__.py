"""Statistics of the verdict: arrays in, frozen facts out; no I/O, no clock, no global random state."""

from enginewatch_ci.stats.effect import LogEffect, Sample, estimate_effect, one_sample
from enginewatch_ci.stats.multiplicity import survivors
from enginewatch_ci.stats.noise import history_sd, within_sd

__all__ = ["LogEffect", "Sample", "estimate_effect", "history_sd", "one_sample", "survivors", "within_sd"]
