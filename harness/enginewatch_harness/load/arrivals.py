"""When requests are to be sent. Pure: offsets from the start, never chains of sleeps.

A schedule is absolute, so a late wake-up delays one request and does not lower the offered rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.check import check_rate, check_steps
from enginewatch_harness.load.spec import OPEN_MODES, LoadSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Seed: TypeAlias = "int | Sequence[int] | np.random.SeedSequence"

_BLOCK = 1024
_NS = 1e9


def constant(rate_rps: float) -> Iterator[int]:
    """Yield offsets in ns of arrivals that are exactly ``1 / rate_rps`` seconds apart; the first is 0."""
    for index in itertools.count():
        yield round(index * _NS / rate_rps)


def poisson(rate_rps: float, seed: Seed) -> Iterator[int]:
    """Yield offsets in ns of a Poisson process: gaps are exponential with mean ``1 / rate_rps`` seconds."""
    return gamma(rate_rps, 1.0, seed)


def gamma(rate_rps: float, burstiness: float, seed: Seed) -> Iterator[int]:
    """Yield offsets in ns of a renewal process whose gaps are gamma distributed.

    Args:
        rate_rps: One over the mean gap, whatever the burstiness.
        burstiness: Coefficient of variation of the gaps. The shape is ``1 / burstiness ** 2``; 1 is Poisson.
        seed: Seed of the gaps.
    """
    import numpy as np

    for times in _unit_process(burstiness, seed):
        yield from np.rint(times * (_NS / rate_rps)).astype(np.int64).tolist()


def _unit_process(burstiness: float, seed: Seed) -> Iterator[NDArray[np.float64]]:
    """Yield blocks of ascending times with a mean gap of 1; a burstiness of 0 gives 0, 1, 2, ..."""
    import numpy as np

    rng = np.random.default_rng(seed)
    end = 0.0
    for block in itertools.count():
        if burstiness == 0:
            yield np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.float64)
            continue
        if burstiness == 1:
            gaps = rng.exponential(1.0, _BLOCK)
        else:
            shape = burstiness**-2
            gaps = rng.gamma(shape, 1 / shape, _BLOCK)
        times = end + np.cumsum(gaps)
        end = float(times[-1])
        yield times


def steps(parts: tuple[tuple[float, float], ...], burstiness: float, seed: Seed) -> Iterator[int]:
    """Yield offsets in ns of a rate that changes in steps; ends with the last of them.

    A process of mean gap 1 is run through the inverse of the expected count: "time rescaling" (E. Çinlar,
    "Introduction to Stochastic Processes", 1975, chapter 4.7). With a burstiness of 1 that is a Poisson process in
    every step, and the count of a step is random; with 0 the gaps are constant and the count is exact.

    Args:
        parts: Requests per second and seconds of each step; a rate of 0 is a pause.
        burstiness: Coefficient of variation of the gaps inside a step.
        seed: Seed of the gaps.
    """
    import numpy as np

    rates, seconds = np.array(parts, dtype=np.float64).T
    counted = np.concatenate([[0.0], np.cumsum(rates * seconds)])
    begins = np.concatenate([[0.0], np.cumsum(seconds)])
    for times in _unit_process(burstiness, seed):
        inside = times[times < counted[-1] * (1 - 1e-12)]
        step = np.searchsorted(counted, inside, side="right") - 1
        offsets = begins[step] + (inside - counted[step]) / rates[step]
        yield from np.rint(offsets * _NS).astype(np.int64).tolist()
        if inside.size < times.size:
            return


def trace(recorded_ns: Iterable[int], speed: float) -> Iterator[int]:
    """Yield recorded offsets in ns, ``speed`` times faster than they were."""
    for offset in recorded_ns:
        yield round(offset / speed)


def schedule(spec: LoadSpec, seed: Seed, recorded_ns: Iterable[int] | None = None) -> Iterator[int]:
    """Return the arrivals of an open loop, in ns from the start of the load.

    Args:
        spec: The load.
        seed: Seed of the gaps.
        recorded_ns: Offsets that the dataset of mode ``trace`` has.

    Raises:
        UsageError: The mode is no open loop, or has no rate, steps or recorded times.
    """
    if spec.mode == "trace":
        if recorded_ns is None:
            raise UsageError("load mode 'trace' needs a dataset with times", remedy="give one, or use mode 'poisson'")
        return trace(recorded_ns, spec.dataset.speed if spec.dataset else 1.0)
    if spec.mode == "steps":
        check_steps(spec)
        return steps(spec.steps, spec.burstiness, seed)
    if spec.mode not in OPEN_MODES:
        raise UsageError(f"load mode {spec.mode!r} has no arrivals", remedy=f"use one of {', '.join(OPEN_MODES)}")
    rate_rps = check_rate(spec)
    if spec.mode == "constant":
        return constant(rate_rps)
    return gamma(rate_rps, spec.burstiness if spec.mode == "gamma" else 1.0, seed)
