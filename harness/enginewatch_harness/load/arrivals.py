"""When requests are to be sent. Pure: offsets from the start, never chains of sleeps.

A schedule is absolute, so a late wake-up delays one request and does not lower the offered rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.spec import LoadSpec

OPEN_MODES = ("poisson", "constant")
MODES = ("closed", *OPEN_MODES)
_BLOCK = 1024
_NS = 1e9


def constant(rate_rps: float) -> Iterator[int]:
    """Yield offsets in ns of arrivals that are exactly ``1 / rate_rps`` seconds apart; the first is 0."""
    index = 0
    while True:
        yield round(index * _NS / rate_rps)
        index += 1


def poisson(rate_rps: float, seed: int | np.random.SeedSequence) -> Iterator[int]:
    """Yield offsets in ns of a Poisson process: gaps are exponential with mean ``1 / rate_rps`` seconds."""
    rng = np.random.default_rng(seed)
    end_s = 0.0
    while True:
        times_s = end_s + np.cumsum(rng.exponential(1 / rate_rps, _BLOCK))
        end_s = float(times_s[-1])
        yield from np.rint(times_s * _NS).astype(np.int64).tolist()


def schedule(spec: LoadSpec, seed: int | np.random.SeedSequence) -> Iterator[int]:
    """Return the arrivals of an open loop, in ns from the start of the load.

    Raises:
        UsageError: The mode is no open loop, or its rate is missing or not positive.
    """
    if spec.mode not in OPEN_MODES:
        raise UsageError(f"load mode {spec.mode!r} has no arrivals", remedy=f"use one of {', '.join(OPEN_MODES)}")
    if spec.rate_rps is None or not spec.rate_rps > 0:
        raise UsageError(f"load mode {spec.mode!r} needs a positive rate_rps, not {spec.rate_rps!r}")
    return constant(spec.rate_rps) if spec.mode == "constant" else poisson(spec.rate_rps, seed)


def check_spec(spec: LoadSpec) -> None:
    """Refuse a load that cannot be offered.

    Raises:
        UsageError: Names the value and what is allowed.
    """
    if spec.mode not in MODES:
        raise UsageError(f"unknown load mode {spec.mode!r}", remedy=f"use one of {', '.join(MODES)}")
    if spec.mode in OPEN_MODES:
        schedule(spec, 0)
    for name in ("concurrency", "isl", "osl"):
        if getattr(spec, name) < 1:
            raise UsageError(f"load {name} = {getattr(spec, name)} must be at least 1")
    if spec.requests is not None and spec.requests < 1:
        raise UsageError(f"load requests = {spec.requests} must be at least 1")
