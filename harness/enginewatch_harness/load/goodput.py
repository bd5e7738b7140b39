"""Goodput: the requests that met every objective. Pure.

Each objective bounds one request: ``ttft_ms``, ``tpot_ms``, ``e2e_ms``, and ``itl_ms`` its largest gap between
content events, the longest that its reader had to wait. A request that failed misses; so does one that lacks a
value that an objective needs, except that a request of a single token has no gap and no TPOT to miss by.

The share is of the requests that started in the measuring phase; the rate counts good requests whose last
content came inside the window, as ``requests_s`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.errors import UsageError
from enginewatch_db.metrics import MetricValue
from enginewatch_harness.load.arrays import LoadArrays
from enginewatch_harness.load.metrics import NS_PER_MS, absent
from enginewatch_harness.load.spec import SLO_KEYS
from enginewatch_harness.load.wilson import wilson_interval
from enginewatch_harness.load.window import completed_inside

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_SLO = "no SLO was set"


def good_requests(arrays: LoadArrays, slo: dict[str, float]) -> NDArray[np.bool_]:
    """Return which requests completed and met every objective.

    Args:
        arrays: All requests.
        slo: Keys of ``SLO_KEYS`` → largest value in ms, inclusive.

    Raises:
        UsageError: An objective that is not known.
    """
    good = arrays.ok.copy()
    single = arrays.output_tokens == 1
    for key, limit_ms in slo.items():
        if key == "itl_ms":
            good &= arrays.largest_gap_ns() <= limit_ms * NS_PER_MS
        elif key == "tpot_ms":
            good &= (arrays.tpot_ns <= limit_ms * NS_PER_MS) | (single & ~np.isnan(arrays.ttft_ns))
        elif key in SLO_KEYS:
            good &= getattr(arrays, f"{key.removesuffix('_ms')}_ns") <= limit_ms * NS_PER_MS
        else:
            raise UsageError(f"unknown SLO {key!r}", remedy=f"use {', '.join(SLO_KEYS)}")
    return good


def goodput_metrics(
    arrays: LoadArrays, slo: dict[str, float], window_ns: tuple[int, int]
) -> tuple[MetricValue, MetricValue]:
    """Return ``goodput_requests_s`` and ``goodput_pct``, the latter with its Wilson interval.

    Args:
        arrays: All requests.
        slo: The objectives; empty for none.
        window_ns: The window that rates are counted over.

    Raises:
        UsageError: An objective that is not known.
    """
    if not slo:
        return absent("goodput_requests_s", NO_SLO), absent("goodput_pct", NO_SLO)
    good = good_requests(arrays, slo)
    return _rate(arrays, good, window_ns), _share(arrays, good)


def _rate(arrays: LoadArrays, good: NDArray[np.bool_], window_ns: tuple[int, int]) -> MetricValue:
    window_s = (window_ns[1] - window_ns[0]) / 1e9
    if window_s <= 0:
        return absent("goodput_requests_s", "the load ended before the measuring phase began")
    ended = completed_inside(arrays, window_ns)
    return MetricValue(metric="goodput_requests_s", value=int((good & ended).sum()) / window_s, n=int(ended.sum()))


def _share(arrays: LoadArrays, good: NDArray[np.bool_]) -> MetricValue:
    due = int(arrays.measured.sum())
    if due == 0:
        return absent("goodput_pct", "no request started in the measuring phase")
    met = int((good & arrays.measured).sum())
    low, high = wilson_interval(met, due)
    return MetricValue(metric="goodput_pct", value=100 * met / due, ci_low=100 * low, ci_high=100 * high, n=due)
