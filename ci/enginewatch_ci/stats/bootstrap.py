"""The smoothed, studentised residual bootstrap: how large |t| gets when nothing changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from enginewatch_ci.stats.location import centred, huber, robust_scale

RESAMPLES = 1_999
"""(RESAMPLES + 1) times 5 % and 1 % are whole numbers, as the rank of a quantile should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """Student's t with ``df`` degrees of freedom as the law of a studentised effect."""

    df: float

    def critical(self, confidence: float) -> float:
        """Return the |t| that is exceeded with probability ``1 - confidence``."""
        return float(stats.t.ppf((1 + confidence) / 2, self.df))

    def two_sided(self, t: float) -> float:
        """Return P(|T| >= |t|)."""
        return float(2 * stats.t.sf(abs(t), self.df))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bootstrapped:
    """Resampled |t| as the law of a studentised effect; it may widen Student's, never narrow it.

    Attributes:
        ordered: |t| of the resamples, ascending.
        student: Student's law with the same degrees of freedom: the floor, since resamples of a handful of runs
            whose spread lies below the floor of the noise say nothing.
    """

    ordered: NDArray[np.float64]
    student: Student

    def critical(self, confidence: float) -> float:
        """Return the |t| that is exceeded with probability ``1 - confidence`` at most."""
        rank = int(np.ceil(round((self.ordered.size + 1) * confidence, 9))) - 1
        return max(self.student.critical(confidence), float(self.ordered[min(rank, self.ordered.size - 1)]))

    def two_sided(self, t: float) -> float:
        """Return P(|T| >= |t|), never zero: (1 + count) / (resamples + 1)."""
        count = self.ordered.size - int(np.searchsorted(self.ordered, abs(t), side="left"))
        return max(self.student.two_sided(t), (1 + count) / (self.ordered.size + 1))


Null = Student | Bootstrapped


def seed_of(*parts: str) -> int:
    """Return a seed from names, so that the same data always gets the same interval."""
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:8], "big")


def two_sample_huber(
    a: NDArray[np.float64], b: NDArray[np.float64], floor_a: float, floor_b: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return both Huber locations and both variances along the last axis, with one scale pooled over the arms.

    Args:
        a: Log values of one arm, shape (..., n_a).
        b: Log values of the other, shape (..., n_b).
        floor_a: Smallest sd that a run of ``a`` can have.
        floor_b: The same for ``b``.
    """
    floor = float(np.sqrt((floor_a**2 + floor_b**2) / 2))
    scale = np.maximum(robust_scale(np.concatenate([centred(a), centred(b)], axis=-1), fitted=2), floor)
    location_a, variance_a = huber(a, scale)
    location_b, variance_b = huber(b, scale)
    return (
        location_a,
        location_b,
        np.maximum(variance_a, floor_a**2 / a.shape[-1]),
        np.maximum(variance_b, floor_b**2 / b.shape[-1]),
    )


def studentised_null(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    floors: tuple[float, float],
    seeds: tuple[int, int],
    resamples: int = RESAMPLES,
) -> NDArray[np.float64]:
    """Return sorted |t| of resamples in which both arms have the same location.

    Each arm is drawn from the residuals of both (their spread was found equal), plus normal noise of ``scale n^-1/5``
    (B. W. Silverman and G. A. Young, "The bootstrap: to smooth or not to smooth?", Biometrika 74, 1987: without it,
    resamples of 3 to 7 runs repeat values and |t| explodes). |t| instead of t: P. Hall, "On symmetric bootstrap
    confidence intervals", JRSS B 50 (1988); it also makes the interval of A against B the mirror of B against A.

    Args:
        a: Log values of one arm, shape (n_a,).
        b: Log values of the other, shape (n_b,).
        floors: Smallest run-to-run sd of each arm.
        seeds: One per arm, bound to the arm's data and not to its role.
        resamples: How many.
    """
    residuals = np.sort(np.concatenate([centred(a), centred(b)]))
    n = residuals.size
    bandwidth = max(float(robust_scale(residuals, fitted=2)[0]), *floors) * n ** (-1 / 5)

    def draw(size: int, seed: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(seed)
        picked = rng.choice(residuals, (resamples, size))
        return np.asarray(picked + rng.normal(0.0, bandwidth, (resamples, size)), dtype=np.float64)

    location_a, location_b, variance_a, variance_b = two_sample_huber(
        draw(a.size, seeds[0]), draw(b.size, seeds[1]), *floors
    )
    return np.sort(np.abs(location_b - location_a) / np.sqrt(variance_a + variance_b))
