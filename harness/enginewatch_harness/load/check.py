"""Refuse a load that cannot be offered, before anything is sent. Pure."""

from __future__ import annotations

import difflib
import math

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.lengths import DATA, parse_lengths
from enginewatch_harness.load.spec import CLOSED, MODES, OPEN_MODES, SLO_KEYS, LoadSpec

RATE_MODES = ("constant", "poisson", "gamma")
FORMATS = ("mooncake", "sharegpt", "jsonl")
MOST_PROCESSES = 1024
LONGEST_S = 31_536_000.0
"""A year: whatever is longer is a mistake of the unit."""


def check_spec(spec: LoadSpec) -> None:
    """Refuse a load that cannot be offered.

    Raises:
        UsageError: Names the value and what is allowed.
    """
    if spec.mode not in MODES:
        near = difflib.get_close_matches(spec.mode, MODES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(MODES)}"
        raise UsageError(f"unknown load mode {spec.mode!r}", remedy=hint)
    for name in ("concurrency", "isl", "osl", "turns"):
        _whole(name, getattr(spec, name), 1)
    _whole("processes", spec.processes, 0, MOST_PROCESSES)
    if spec.requests is not None:
        _whole("requests", spec.requests, 1)
    _check_times(spec)
    _check_lengths(spec)
    _check_dataset(spec)
    _check_prefixes(spec)
    for key, value in spec.slo.items():
        check_objective(key, value)


def check_rate(spec: LoadSpec) -> float:
    """Return the rate of a mode that needs one.

    Raises:
        UsageError: It is missing, not positive or not finite.
    """
    if spec.rate_rps is None:
        raise UsageError(f"load mode {spec.mode!r} needs rate_rps", remedy="give requests per second above 0")
    if not 0 < spec.rate_rps <= 1e9:  # NaN fails too
        raise UsageError(f"load mode {spec.mode!r} needs a positive rate_rps, not {spec.rate_rps!r}")
    return spec.rate_rps


def check_steps(spec: LoadSpec) -> None:
    """Refuse steps that give no arrivals.

    Raises:
        UsageError: Names the step.
    """
    if not spec.steps:
        raise UsageError("load mode 'steps' needs steps", remedy="give requests per second and seconds of each step")
    for number, (rate_rps, seconds) in enumerate(spec.steps):
        if not 0 <= rate_rps <= 1e9:
            raise UsageError(f"load steps[{number}] has a rate of {rate_rps!r}", remedy="give 0 (a pause) or more")
        if not 0 < seconds <= LONGEST_S:
            raise UsageError(f"load steps[{number}] lasts {seconds!r} s", remedy="give seconds above 0")
    if not any(rate_rps for rate_rps, _ in spec.steps):
        raise UsageError("load steps have no rate above 0", remedy="give at least one step with requests")


def _check_times(spec: LoadSpec) -> None:
    if spec.mode in RATE_MODES:
        check_rate(spec)
    elif spec.rate_rps is not None:
        raise UsageError(
            f"load mode {spec.mode!r} takes no rate_rps (it is {spec.rate_rps!r})",
            remedy=f"leave it out, or use one of {', '.join(RATE_MODES)}",
        )
    if spec.mode == "steps":
        check_steps(spec)
    elif spec.steps:
        raise UsageError(f"load mode {spec.mode!r} takes no steps", remedy="leave them out, or use mode 'steps'")
    if not 0 <= spec.think_time_s <= LONGEST_S:
        raise UsageError(f"load think_time_s = {spec.think_time_s!r} must be 0 or more seconds")
    if spec.think_time_s and spec.mode in OPEN_MODES:
        raise UsageError(
            f"load think_time_s = {spec.think_time_s:g} has no meaning in mode {spec.mode!r}: "
            "an open loop does not wait for answers",
            remedy=f"leave it out, or use mode {CLOSED!r}",
        )
    if not 0 <= spec.burstiness <= 100 or (spec.burstiness == 0 and spec.mode != "steps"):
        raise UsageError(
            f"load burstiness = {spec.burstiness!r} must be above 0 and at most 100",
            remedy="1 is Poisson; for even gaps use mode 'constant', or 0 in mode 'steps'",
        )
    if spec.burstiness != 1 and spec.mode not in ("gamma", "steps"):
        raise UsageError(
            f"load mode {spec.mode!r} takes no burstiness (it is {spec.burstiness:g})", remedy="use mode 'gamma'"
        )


def _check_lengths(spec: LoadSpec) -> None:
    for name, text in (("isl", spec.isl_dist), ("osl", spec.osl_dist)):
        parse_lengths(text, getattr(spec, name), name=name)
        if text == DATA and spec.dataset is None:
            raise UsageError(f"load {name}_dist = 'data' needs a dataset", remedy="give one, or another distribution")


def _check_dataset(spec: LoadSpec) -> None:
    if spec.dataset is None:
        if spec.mode == "trace":
            raise UsageError("load mode 'trace' needs a dataset", remedy="give a file with a time for each request")
        return
    if spec.dataset.format is not None and spec.dataset.format not in FORMATS:
        raise UsageError(
            f"unknown dataset format {spec.dataset.format!r}", remedy=f"use one of {', '.join(FORMATS)}, or none"
        )
    speed = spec.dataset.speed
    if not 1e-6 <= speed <= 1e6:
        raise UsageError(f"dataset speed = {speed!r} must be above 0", remedy="2 runs a trace in half its time")
    if speed != 1 and spec.mode != "trace":
        raise UsageError(
            f"dataset speed = {speed:g} has no meaning in load mode {spec.mode!r}", remedy="use mode 'trace'"
        )


def _check_prefixes(spec: LoadSpec) -> None:
    if spec.prefixes is None:
        return
    _whole("prefixes.groups", spec.prefixes.groups, 1)
    _whole("prefixes.tokens", spec.prefixes.tokens, 1)
    if spec.prefixes.tokens >= spec.isl and spec.isl_dist != DATA:
        raise UsageError(
            f"load prefixes.tokens = {spec.prefixes.tokens} leaves nothing of isl = {spec.isl} that is not shared",
            remedy="the prefix is part of the prompt: raise isl or lower the prefix",
        )


def check_objective(key: str, value: float, *, place: str = "slo.") -> None:
    """Refuse an objective that is not known, or that nothing can meet.

    Args:
        key: One of ``SLO_KEYS``.
        value: Its limit in ms.
        place: How its name is spelt there, for the message.

    Raises:
        UsageError: Names the place, the value and the known keys.
    """
    if key not in SLO_KEYS:
        near = difflib.get_close_matches(key, SLO_KEYS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(SLO_KEYS)}"
        raise UsageError(f"unknown objective {place}{key}", remedy=hint)
    if not 0 < value < math.inf:
        raise UsageError(f"load {place}{key} = {value!r} must be a positive number of ms")


def _whole(name: str, value: int, low: int, high: int = 10_000_000) -> None:
    # Specs are also made from command lines and JSON, so a type may be wrong whatever the annotation says.
    if type(value) is not int or not low <= value <= high:
        raise UsageError(f"load {name} = {value!r} must be a whole number of at least {low} and at most {high}")
