"""A fixed piece of CPU work, timed in every run: the host's own speed, as a control for the verdict.

Two sessions lie minutes or days apart. When the machine itself got slower (frequency, a noisy neighbour, another
kernel), this work got slower too, and the verdict says so instead of blaming the code.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

REPEATS = 8
_BYTES = bytes(range(256)) * 2048
_MATRIX = np.arange(160 * 160, dtype=np.float64).reshape(160, 160) / 25600
_STREAM = np.zeros(1 << 20, dtype=np.float64)


def _once() -> int:
    """Hash 512 KiB, multiply small matrices and stream 8 MiB: integer, floating-point and memory work."""
    start = time.perf_counter_ns()
    hashlib.sha256(_BYTES).digest()
    for _ in range(4):
        _MATRIX @ _MATRIX
    np.add(_STREAM, 1.0, out=_STREAM)
    return time.perf_counter_ns() - start


def sample() -> list[int]:
    """Return the times of ``REPEATS`` rounds in ns, after one that is not counted."""
    _once()
    return [_once() for _ in range(REPEATS)]
