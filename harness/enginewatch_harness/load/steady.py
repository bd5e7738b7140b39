"""Whether a load had a steady state: Little's law, the queue's growth, and the trend of E2E. Pure.

Three looks at the window, from completed requests alone (when a failed one ended is not recorded):

1. **Little's law**, L = λW (J. D. C. Little, "A proof for the queuing formula: L = λW", Operations Research 9
   (1961)). L is the time average of requests in flight inside the window, λ the arrivals in it over its length,
   W their mean time in the system. Over a finite window L/(λW) is 1 + (time that requests from before still
   spend inside - time that arrivals of the window spend after it) / λWT: in steady state both are requests in
   flight times the mean rest of their time, E[W²]/2E[W], and cancel but for chance. So the tolerance is three
   times that share of the window (a window that began on an empty server lacks one of them; chance adds as
   much again, and twice that at small numbers), plus ``LITTLE_SLACK``. Beyond it, requests took longer and
   longer, or were left over.
2. **Growth of the queue** (open loop). Above its capacity a server's requests in flight grow with the number of
   arrivals; below it they do not. In between, at exactly its capacity, they walk at random, by
   sqrt((ca² + cs²) n) after n arrivals, where ca and cs are the coefficients of variation of gaps and of service
   (heavy-traffic limit; D. L. Iglehart and W. Whitt, "Multiple channel queues in heavy traffic", Advances in
   Applied Probability 2 (1970)). Growth by ``GROWTH_LIMIT`` of these and by half of the mean is more than a
   load that the server sustains brings about. Growth is Theil-Sen's slope over batches times the window.
3. **Trend of E2E**, at first over its last fitted value: Theil-Sen's slope over the means of batches of equal
   numbers of requests (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63
   (1968)), tested by Mann and Kendall with the variance raised by (1 + r)/(1 - r) for the lag-one
   autocorrelation r of what is left when the trend is taken off (S. Yue and C. Wang, "The Mann-Kendall test
   modified by effective sample size", Water Resources Management 18 (2004)): successive requests of a queue
   resemble each other, and the plain test would take that for a trend.

Little's law or the queue reject the run (``load_not_steady``); a trend of E2E alone marks it (``not_steady``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erfc, sqrt
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import MetricValue
from enginewatch_db.validity import Reason
from enginewatch_harness.load.arrays import LoadArrays
from enginewatch_harness.load.metrics import absent
from enginewatch_harness.load.spec import CLOSED, LoadSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_REQUESTS = 64
"""Eight batches of eight: below, no trend can be told from chance."""

BATCHES = (8, 20)
REQUESTS_A_BATCH = 8
LITTLE_SLACK = 0.1
LITTLE_RESTS = 3
GROWTH_LIMIT = 1.25
GROWTH_SHARE_OF_MEAN = 0.5
TREND_LIMIT_PCT = 10.0
"""As for engines: a smaller drift is no reason to doubt a median."""

TREND_P_CLOSED = 0.01
TREND_P_OPEN = 0.002
"""The queue of an open loop wanders for long, and its wandering looks like a trend."""

VARYING = ("steps", "trace")
"""Arrivals whose rate changes by design: growth and trend would be found in them, and mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A trend over batches in order of time.

    Attributes:
        rise: Theil-Sen's slope times the length, from the middle of the first batch to that of the last.
        first: The fitted value at the first batch; never below the smallest batch.
        p: Two-sided, by Mann and Kendall.
    """

    rise: float
    first: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """What the window says about the load's state. ``None`` where a thing could not be told, with ``note`` why.

    Attributes:
        in_flight: Mean requests in flight inside the window.
        little_ratio: In flight over arrival rate times mean time in the system.
        little_tolerance: How far from 1 it may lie.
        growth: Requests in flight, end less start of the window, by its trend; open loop only.
        growth_limit: The growth that is too much.
        drift_pct: Change of E2E over the window.
        drift_p: How likely chance brings such a trend.
        drift_p_limit: Below this it is not chance.
        n: Completed requests that started in the window.
        why_not: Why drift and growth were not evaluated.
    """

    in_flight: float | None = None
    little_ratio: float | None = None
    little_tolerance: float = 0.0
    growth: float | None = None
    growth_limit: float = 0.0
    drift_pct: float | None = None
    drift_p: float = 1.0
    drift_p_limit: float = TREND_P_OPEN
    n: int = 0
    why_not: str | None = None


def steadiness(arrays: LoadArrays, spec: LoadSpec, window_ns: tuple[int, int]) -> Steadiness:
    """Look at the load's state inside the window.

    Args:
        arrays: All requests of the load.
        spec: How they arrived.
        window_ns: The window that rates are counted over, relative to the run's origin.
    """
    used = arrays.ok & arrays.timed & ~np.isnan(arrays.e2e_ns)
    starts, e2e = arrays.start_ns[used].astype(np.float64), arrays.e2e_ns[used]
    length = float(window_ns[1] - window_ns[0])
    came = (starts >= window_ns[0]) & (starts < window_ns[1])
    n = int(came.sum())
    if length <= 0 or n == 0 or not e2e[came].any():
        return Steadiness(why_not="no completed request with known times started in the window")
    in_flight = float(_in_flight(starts, e2e, np.array(window_ns, dtype=np.float64))[0])
    waits = e2e[came]
    # λW is the sum of the waits over the window's length.
    ratio = in_flight * length / float(waits.sum())
    rest = float((waits**2).mean() / (2 * waits.mean()))
    state = Steadiness(
        in_flight=in_flight,
        little_ratio=ratio,
        little_tolerance=LITTLE_SLACK + LITTLE_RESTS * rest / length,
        n=n,
        drift_p_limit=TREND_P_CLOSED if spec.mode == CLOSED else TREND_P_OPEN,
    )
    if why := _why_no_trend(n, spec):
        return replace(state, why_not=why)
    batches = int(np.clip(n // REQUESTS_A_BATCH, *BATCHES))
    drift = trend(_batch_means(starts[came], waits, batches))
    state = replace(state, drift_pct=100 * drift.rise / drift.first if drift.first > 0 else 0.0, drift_p=drift.p)
    if spec.mode == CLOSED:
        return state
    edges = np.linspace(window_ns[0], window_ns[1], batches + 1)
    queue = trend(_in_flight(starts, e2e, edges))
    chance = GROWTH_LIMIT * np.sqrt((_variation_of_gaps(starts[came], spec) + 1) * n)
    limit = max(float(chance), GROWTH_SHARE_OF_MEAN * in_flight)
    return replace(state, growth=queue.rise * batches / (batches - 1), growth_limit=limit)


def _why_no_trend(n: int, spec: LoadSpec) -> str | None:
    if spec.mode in VARYING:
        return f"the arrivals of mode {spec.mode} change by design"
    return f"{n} requests are too few, {MIN_REQUESTS} are needed" if n < MIN_REQUESTS else None


def _in_flight(
    starts: NDArray[np.float64], e2e: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean number of requests in flight between each two edges, exactly."""
    spent = np.array([np.clip(edge - starts, 0.0, e2e).sum() for edge in edges])
    found: NDArray[np.float64] = np.diff(spent) / np.diff(edges)
    return found


def _batch_means(starts: NDArray[np.float64], values: NDArray[np.float64], batches: int) -> NDArray[np.float64]:
    ordered = values[np.argsort(starts, kind="stable")]
    edges = np.linspace(0, ordered.size, batches + 1).astype(np.int64)
    found: NDArray[np.float64] = np.add.reduceat(ordered, edges[:-1]) / np.diff(edges)
    return found


def _variation_of_gaps(starts: NDArray[np.float64], spec: LoadSpec) -> float:
    """Return the squared coefficient of variation of gaps between arrivals, 1 (Poisson) at the least."""
    gaps = np.diff(np.sort(starts))
    mean = float(gaps.mean())
    seen = float(gaps.var()) / mean**2 if mean > 0 else 0.0
    return max(1.0, spec.burstiness**2 if spec.mode == "gamma" else 0.0, seen)


def trend(values: NDArray[np.float64]) -> Trend:
    """Return the trend of values at equal distances, in order of time.

    Args:
        values: Means of batches, shape (n,), n >= 3.
    """
    n = values.size
    i, j = np.triu_indices(n, 1)
    steps = values[j] - values[i]
    slope = float(np.median(steps / (j - i)))
    rest = values - slope * np.arange(n)
    score = float(np.sign(steps).sum())
    _, ties = np.unique(values, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    variance *= _inflation(rest)
    z = (abs(score) - 1) / np.sqrt(variance) if score and variance > 0 else 0.0
    first = max(float(np.median(rest)), float(values.min()))
    return Trend(rise=slope * (n - 1), first=first, p=erfc(float(z) / sqrt(2)) if z > 0 else 1.0)


def _inflation(rest: NDArray[np.float64]) -> float:
    """Return (1 + r)/(1 - r) for the lag-one autocorrelation r of the ranks; 1 where it is not positive."""
    _, place, ties = np.unique(rest, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    ranks -= ranks.mean()
    power = float(ranks @ ranks)
    r = min(0.9, max(0.0, float(ranks[1:] @ ranks[:-1]) / power)) if power else 0.0
    return (1 + r) / (1 - r)


def steady_metrics(state: Steadiness) -> tuple[MetricValue, ...]:
    """Return ``requests_in_flight``, ``little_law_ratio`` and ``load_drift_pct``."""
    why = state.why_not or ""

    def one(metric: str, value: float | None) -> MetricValue:
        return absent(metric, why) if value is None else MetricValue(metric=metric, value=value, n=state.n)

    return (
        one("requests_in_flight", state.in_flight),
        one("little_law_ratio", state.little_ratio),
        one("load_drift_pct", state.drift_pct),
    )


def steady_reasons(state: Steadiness) -> tuple[Reason, ...]:
    """Return ``load_not_steady`` where the evidence is strong, ``not_steady`` where E2E alone drifted."""
    signs = []
    if state.growth is not None and state.growth > state.growth_limit:
        signs.append(
            f"requests in flight grew by {state.growth:.0f}, {state.growth_limit:.0f} could be chance: "
            "the load is above the server's capacity, or the warm-up was too short to reach its level"
        )
    if state.little_ratio is not None and state.n >= MIN_REQUESTS:
        off = abs(state.little_ratio - 1)
        if off > state.little_tolerance:
            signs.append(
                f"in flight is {state.little_ratio:.2f} of rate times latency (Little's law; "
                f"{state.little_tolerance:.2f} off 1 could be chance)"
            )
    if signs:
        return (Reason(code="load_not_steady", detail="; ".join(signs)),)
    if state.drift_pct is not None and abs(state.drift_pct) > TREND_LIMIT_PCT and state.drift_p < state.drift_p_limit:
        detail = f"E2E changed by {state.drift_pct:+.0f} % over the measuring phase (p = {state.drift_p:.1g})"
        return (Reason(code="not_steady", detail=detail),)
    return ()
