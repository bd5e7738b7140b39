"""A fixed piece of CPU work, timed in every run: the host's own speed, as a control for the verdict.

Two sessions lie minutes or days apart. When the machine itself got slower (frequency, a noisy neighbour, another
kernel), this work got slower too, and the verdict says so instead of blaming the code.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

REPEATS = 12
_BYTES = bytes(range(256)) * 2048
_UNSORTED = np.random.default_rng(1).permutation(1 << 14)
_CACHED = np.linspace(0.0, 1.0, 1 << 14)
_STREAM = np.zeros(1 << 19, dtype=np.float64)


def _once() -> int:
    """Hash 512 KiB, sort 16 Ki integers, evaluate a polynomial in the cache and stream 4 MiB; all on one thread.

    No matrix product: BLAS would spread it over threads, and on a busy host measure the scheduler instead.
    """
    start = time.perf_counter_ns()
    hashlib.sha256(_BYTES).digest()
    np.sort(_UNSORTED)
    value = _CACHED
    for _ in range(20):
        value = value * 0.5 + 1.0
    np.add(_STREAM, 1.0, out=_STREAM)
    return time.perf_counter_ns() - start


def sample() -> list[int]:
    """Return the times of ``REPEATS`` rounds in ns, after one that is not counted."""
    _once()
    return [_once() for _ in range(REPEATS)]
