"""A made-up GPU for demos and tests: every value is a function of seed, device and elapsed time alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from enginewatch_collector.backends.base import Reading, Values
from enginewatch_collector.quality import QualityLog
from enginewatch_db.model import Json

_POWER_LIMIT_MW = 700_000
_MAX_SM_CLOCK_MHZ = 1980
_TAU = 2 * math.pi


def _phase(seed: int, gpu: int) -> float:
    """Return an angle that differs between seeds and devices: multiples of the golden ratio do not repeat."""
    return _TAU * (((seed * 31 + gpu + 1) * 0.6180339887498949) % 1.0)


def load_share(elapsed_s: float, *, seed: int, gpu: int) -> float:
    """Return how busy the device is, 0.2 to 1.0, in a slow wave of 20 s."""
    return 0.6 + 0.4 * math.sin(_TAU * elapsed_s / 20 + _phase(seed, gpu))


def energy_mj(elapsed_s: float, *, seed: int, gpu: int) -> int:
    """Return the integral of the power from 0 to ``elapsed_s``, in closed form."""
    angle = _phase(seed, gpu)
    share_s = 0.6 * elapsed_s + 0.4 * 20 / _TAU * (math.cos(angle) - math.cos(_TAU * elapsed_s / 20 + angle))
    return round(80_000 * elapsed_s + 600_000 * share_s)


def values_at(elapsed_s: float, *, seed: int, gpu: int) -> tuple[Values, Values]:
    """Return the fast and the slow values of one device."""
    share = load_share(elapsed_s, seed=seed, gpu=gpu)
    power_mw = round(80_000 + 600_000 * share)
    capped = share > 0.95
    fast: Values = {
        "graphics_active_pct": min(100.0, 105 * share),
        "sm_active_pct": 95 * share,
        "sm_occupancy_pct": 45 * share,
        "tensor_active_pct": 70 * share,
        "dram_bw_pct_of_peak": 40 * share,
        "fp32_active_pct": 10 * share,
        "fp16_active_pct": 2 * share,
        "pcie_tx_mib_s": 50 * share,
        "pcie_rx_mib_s": 400 * share,
        "gpu_busy_time_pct": float(round(min(100.0, 110 * share))),
        "mem_ctrl_busy_time_pct": float(round(50 * share)),
        "power_mw": min(power_mw, _POWER_LIMIT_MW),
        "sm_clock_mhz": 1800 if capped else _MAX_SM_CLOCK_MHZ,
        "mem_clock_mhz": 3201,
        "clock_event_reasons": 0x4 if capped else 0,
    }
    slow: Values = {
        "energy_mj": energy_mj(elapsed_s, seed=seed, gpu=gpu),
        "temp_c": round(35 + 25 * share),
        "mem_temp_c": round(40 + 25 * share),
        "gpu_mem_used_mib": 20_000 + 1_000 * gpu,
    }
    return fast, slow


class SyntheticBackend:
    """Samples made-up GPUs.

    Args:
        seed: Chooses the curve.
        gpus: How many devices.
        clock: Monotonic clock in ns; the curve begins at ``open``.
    """

    name = "synthetic"

    def __init__(self, *, seed: int = 0, gpus: int = 1, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._seed = seed
        self._gpus = gpus
        self._clock = clock
        self._origin_ns = 0

    def open(self, log: QualityLog) -> None:
        """Begin the curve."""
        self._origin_ns = self._clock()

    def devices(self) -> tuple[Json, ...]:
        """Return the made-up facts."""
        return tuple(
            {
                "device": f"gpu{gpu}",
                "source": self.name,
                "name": "Synthetic GPU",
                "seed": self._seed,
                "power_limit_mw": _POWER_LIMIT_MW,
                "max_sm_clock_mhz": _MAX_SM_CLOCK_MHZ,
            }
            for gpu in range(self._gpus)
        )

    def read_fast(self) -> list[Reading]:
        """Return the fast values at this moment."""
        return [self._reading(gpu, 0) for gpu in range(self._gpus)]

    def read_slow(self) -> list[Reading]:
        """Return the slow values at this moment."""
        return [self._reading(gpu, 1) for gpu in range(self._gpus)]

    def close(self) -> None:
        """Nothing is held open."""

    def _reading(self, gpu: int, tier: int) -> Reading:
        now = self._clock()
        values = values_at((now - self._origin_ns) / 1e9, seed=self._seed, gpu=gpu)[tier]
        return Reading(source=self.name, device=f"gpu{gpu}", t_before_ns=now, t_after_ns=now, values=values)
