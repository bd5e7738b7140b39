"""Where throughput stops growing with load: the knee of noisy, repeated points, with its interval. Pure.

The knee is where the two asymptotes of log throughput against log load cross. For a closed loop that is the
saturation point ``N* = X_max R_0`` of operational analysis (Lazowska, Zahorjan, Graham and Sevcik, "Quantitative
System Performance", 1984, section 5.2): below it more streams bring more throughput, above it only longer queues.
It does not move when the ladder is extended, as the farthest point from a chord does.

With ``u = log(load) - log(knee)`` the curve is

    log(throughput) = level + slope u - bend log(1 + exp(sharpness u)) / sharpness

``slope`` is the growth before the knee (1: each stream adds as much as the first), ``slope - bend`` the growth
after it (0: flat; below 0: overload costs throughput). ``sharpness`` says how the one becomes the other: large is
a server with so many slots; 1 with slope 1 and bend 1 is ``X = N / (t0 + c N)``, a step that takes c longer for
each sequence in the batch, and the universal scalability law without coherency (Gunther, "Guerrilla Capacity
Planning", 2007, chapter 4). Knee and sharpness are searched on a grid, the rest is least squares (``knee_fit``).

Points far from the knee say little about it, and a curve that is not two straight lines would be bent to meet
them: each is weighted by its distance. Disturbed runs are weighted down by Huber's rule ("Robust Statistics", 1981,
section 7.8). The interval is a bootstrap of the residuals over the whole fit (Davison and Hinkley, "Bootstrap
Methods and their Application", 1997, section 6.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enginewatch_harness.load.knee_fit import STEP, Array, Fit, Grid, bic

MIN_LEVELS = 4
MIN_BEND = 0.15
"""A bend of less is no knee: the growth changes by so little that no operating point follows from it."""

MAX_AFTER_SHARE = 0.5
"""Growth after the knee over growth before it; above it throughput has not stopped growing."""

GROWS = 0.3
"""Slope of a straight line from which on throughput grows with load."""

SIGNIFICANT_BIC = 6.0
"""Strong evidence for a bend over a straight line (Kass and Raftery, JASA 90, 1995: 6 to 10)."""

BESIDE = 1.05
"""A level is below or above the knee when it differs from it by this factor."""

NEAR = math.log(4.0)
"""Distance from the knee, in log units, at which a point's weight is a half."""

HUBER_C = 1.345
"""Efficiency of 95 % at the normal law (Huber 1981)."""

MIN_SD = 1e-3
"""Smallest spread of runs that is believed, in log units."""

ROUNDS = 3
RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run: what was offered and what came out of it, both positive.

    Attributes:
        load: Streams, or requests per second.
        throughput: Tokens or requests per second.
    """

    load: float
    throughput: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """Where throughput stops growing.

    Attributes:
        load: The knee.
        ci_low: Lower end of its interval.
        ci_high: Upper end.
        throughput: Throughput at the knee, by the asymptotes: what the server can do at most, about.
        slope_before: Growth of log throughput with log load before it.
        slope_after: The same after it.
        sharpness: How abruptly one becomes the other.
        residual_sd: Spread of runs around the curve, in log units.
        points: Runs behind it.
    """

    load: float
    ci_low: float
    ci_high: float
    throughput: float
    slope_before: float
    slope_after: float
    sharpness: float
    residual_sd: float
    points: int

    @property
    def half_width_rel(self) -> float:
        """Half the interval's width in log units: 0.1 is about 10 %."""
        return 0.5 * math.log(self.ci_high / self.ci_low)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoKnee:
    """Why there is none.

    Attributes:
        code: ``too_few_levels``, ``still_growing``, ``saturated_at_once`` or ``no_bend``.
        why: One sentence.
    """

    code: str
    why: str


def find_knee(points: Sequence[Point], *, seed: int = 0) -> Knee | NoKnee:
    """Return the knee of throughput against load, or why it is not in the range that was measured.

    Args:
        points: One for each run; repeats of a level are separate points.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: A load or a throughput is not positive and finite.
    """
    loads = np.asarray([point.load for point in points], dtype=np.float64)
    values = np.asarray([point.throughput for point in points], dtype=np.float64)
    if not (np.isfinite(loads) & np.isfinite(values) & (loads > 0) & (values > 0)).all():
        raise ValueError("loads and throughputs must be positive and finite")
    levels = np.unique(loads)
    if levels.size < MIN_LEVELS:
        return NoKnee(
            code="too_few_levels", why=f"{levels.size} levels brought a throughput, a knee needs {MIN_LEVELS}"
        )
    x, y = np.log(loads), np.log(values)
    fit, weight, sd = _robust(x, y)
    refusal = _refuse(x, y, fit, levels)
    if refusal is not None:
        return refusal
    low, high = _interval(x, fit, weight, y, seed)
    knee = float(fit.knee[0])
    return Knee(
        load=math.exp(knee),
        ci_low=math.exp(min(low, knee)),
        ci_high=math.exp(max(high, knee)),
        throughput=math.exp(float(fit.level[0])),
        slope_before=float(fit.slope[0]),
        slope_after=float(fit.slope[0] - fit.bend[0]),
        sharpness=float(fit.sharpness[0]),
        residual_sd=sd,
        points=len(points),
    )


def _robust(x: Array, y: Array) -> tuple[Fit, Array, float]:
    """Fit with weights by distance from the knee and by residual; return the fit, the weights, the spread."""
    weight = np.ones_like(x)
    fit = Grid(x, weight).fit(y[:, None])
    sd = MIN_SD
    for _ in range(ROUNDS):
        residual = y - fit.curve(x)
        # The median absolute deviation over 0.6745 is the standard deviation of a normal law (Huber 1981).
        freedom = max(1.0, x.size - float(fit.parameters[0]))
        sd = max(MIN_SD, float(np.median(np.abs(residual))) / 0.6745 * math.sqrt(x.size / freedom))
        distance = np.abs(x - fit.knee[0]) / NEAR
        huber = np.minimum(1.0, HUBER_C * sd / np.maximum(np.abs(residual), 1e-12))
        weight = huber / (1 + distance**4)
        weight *= weight.size / weight.sum()
        fit = Grid(x, weight).fit(y[:, None])
    return fit, weight, sd


def _straight(x: Array, y: Array) -> tuple[float, float]:
    """Return the slope of a straight line through the points and its criterion."""
    slope, level = np.polyfit(x, y, 1)
    rss = np.asarray(((y - level - slope * x) ** 2).sum())
    return float(slope), float(bic(rss, x.size, 2))


def _refuse(x: Array, y: Array, fit: Fit, levels: Array) -> NoKnee | None:
    slope, straight = _straight(x, y)
    plain = Grid(x, np.ones_like(x)).fit(y[:, None])
    bent = np.isfinite(fit.rss[0]) and straight - float(plain.bic[0]) > SIGNIFICANT_BIC and fit.bend[0] >= MIN_BEND
    lowest, highest = f"{levels[0]:g}", f"{levels[-1]:g}"
    growing = NoKnee(
        code="still_growing", why=f"throughput still grows at the highest load, {highest}: measure higher ones"
    )
    saturated = NoKnee(
        code="saturated_at_once",
        why=f"throughput does not grow from the lowest load on, {lowest}: the knee is there or below",
    )
    if not bent:
        if slope >= GROWS:
            return growing
        return (
            saturated
            if slope < MIN_BEND
            else NoKnee(
                code="no_bend", why=f"throughput grows slowly and evenly from {lowest} to {highest}, without a bend"
            )
        )
    knee = math.exp(float(fit.knee[0]))
    if levels[-1] < BESIDE * knee or fit.slope[0] - fit.bend[0] > MAX_AFTER_SHARE * fit.slope[0]:
        return growing
    return saturated if levels[0] * BESIDE > knee else None


def _interval(x: Array, fit: Fit, weight: Array, y: Array, seed: int) -> tuple[float, float]:
    root = np.sqrt(weight)
    freedom = max(1.0, x.size - float(fit.parameters[0]))
    residual = (y - fit.curve(x)) * root
    residual = (residual - residual.mean()) * math.sqrt(x.size / freedom)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(residual, size=(x.size, RESAMPLES)) / np.maximum(root, 0.05)[:, None]
    again = Grid(x, weight, around=float(fit.knee[0])).fit(fit.curve(x)[:, None] + drawn)
    found = again.knee[np.isfinite(again.rss)]
    if not found.size:
        return float(x.min()), float(x.max())
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # The grid cannot tell knees apart that are closer than its step.
    return float(low) - STEP / 2, float(high) + STEP / 2
