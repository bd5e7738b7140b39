"""Least squares behind the knee: every candidate of a grid at once, for many columns of data. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHARPNESS = (1.0, 2.0, 4.0, 16.0)
"""From ``X = N / (t0 + c N)`` to a corner: at 16, the curve is a corner to within 4 % of the throughput."""

STEP = 0.03
"""Between neighbouring knees of the grid, in log units: a third of the 10 % that a knee is wanted to."""

MAX_STEPS = 400
WITHIN = 0.9
"""Half the range of a search around a known knee, in log units: a factor of 2.5 to either side."""

SLOPE_LIMITS = (0.05, 1.15)
"""Growth before the knee. Above 1 only by noise: no stream makes the others faster."""

FAMILIES = ("unit", "flat", "free")
"""``unit``: slope 1 before the knee, 0 after it. ``flat``: 0 after it. ``free``: both are fitted."""

_PARAMETERS = {"unit": 1, "flat": 2, "free": 3}
_TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The best curve for each column of data.

    Attributes:
        knee: Log of the knee.
        sharpness: One of ``SHARPNESS``.
        level: Log throughput at the knee, by the asymptotes.
        slope: Growth before the knee.
        bend: By how much less it grows after the knee.
        rss: Weighted residual sum of squares.
        bic: Schwarz's criterion, for comparing models; smaller is better.
        parameters: How many were fitted, knee and sharpness included.
    """

    knee: Array
    sharpness: Array
    level: Array
    slope: Array
    bend: Array
    rss: Array
    bic: Array
    parameters: Array

    def curve(self, x: Array) -> Array:
        """Return the curve of the first column at log loads ``x``."""
        u = x - self.knee[0]
        bent = np.logaddexp(0.0, self.sharpness[0] * u) / self.sharpness[0]
        found: Array = self.level[0] + self.slope[0] * u - self.bend[0] * bent
        return found


def bic(rss: Array, count: int, parameters: int) -> Array:
    """Return Schwarz's criterion of a least-squares fit (Schwarz, Annals of Statistics 6, 1978)."""
    found: Array = count * np.log(rss / count + _TINY) + parameters * np.log(count)
    return found


def _gram_schmidt(basis: Array) -> tuple[Array, Array]:
    """Return orthonormal columns and the triangle for stacks of matrices with three columns at most."""
    q, r = basis.copy(), np.zeros((basis.shape[0], basis.shape[2], basis.shape[2]))
    for column in range(basis.shape[2]):
        r[:, column, column] = np.maximum(np.sqrt(np.einsum("gn,gn->g", q[..., column], q[..., column])), _TINY)
        q[..., column] /= r[:, column, column, None]
        for later in range(column + 1, basis.shape[2]):
            r[:, column, later] = np.einsum("gn,gn->g", q[..., column], q[..., later])
            q[..., later] -= r[:, column, later, None] * q[..., column]
    return q, r


def _back(r: Array, right: Array) -> Array:
    """Solve ``r x = right`` for stacks of small upper triangles; LAPACK's general solver takes five times as long."""
    found = np.empty_like(right)
    for row in range(r.shape[1] - 1, -1, -1):
        rest = right[:, row] - np.einsum("gk,gkb->gb", r[:, row, row + 1 :], found[:, row + 1 :])
        found[:, row] = rest / r[:, row, row, None]
    return found


class Grid:
    """All candidate curves for points at given log loads.

    Args:
        x: Log loads, at least two distinct.
        weight: Weight of each point.
        around: Only knees within ``WITHIN`` of this one; ``None``: all between the smallest and the largest load.
    """

    def __init__(self, x: Array, weight: Array, *, around: float | None = None) -> None:
        low, high = float(x.min()), float(x.max())
        if around is not None:
            low, high = max(low, around - WITHIN), min(high, around + WITHIN)
        steps = min(MAX_STEPS, max(8, int(np.ceil((high - low) / STEP))))
        self._knees = np.repeat(np.linspace(low, high, steps + 1), len(SHARPNESS))
        self._sharpness = np.tile(np.asarray(SHARPNESS), steps + 1)
        u = x[None, :] - self._knees[:, None]
        bent = np.logaddexp(0.0, self._sharpness[:, None] * u) / self._sharpness[:, None]
        one = np.ones_like(u)
        bases = {
            "unit": (one[..., None], u - bent),
            "flat": (np.stack([one, u - bent], axis=2), np.zeros_like(u)),
            "free": (np.stack([one, u, -bent], axis=2), np.zeros_like(u)),
        }
        self._root = np.sqrt(weight)
        self._solved = {name: self._orthogonal(*basis) for name, basis in bases.items()}

    def _orthogonal(self, basis: Array, offset: Array) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        q, r = _gram_schmidt(basis * self._root[None, :, None])
        singular: NDArray[np.bool_] = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(axis=1) < 1e-6
        r[singular] = np.eye(r.shape[1])
        return np.ascontiguousarray(np.swapaxes(q, 1, 2)), r, offset * self._root, singular

    def fit(self, y: Array) -> Fit:
        """Return the best curve for each column of ``y`` (points x columns)."""
        fits = [self._family(name, y) for name in FAMILIES]
        best = np.argmin([fit.bic for fit in fits], axis=0)
        columns = np.arange(y.shape[1])
        names = Fit.__dataclass_fields__
        return Fit(**{name: np.stack([getattr(fit, name) for fit in fits])[best, columns] for name in names})

    def _family(self, name: str, y: Array) -> Fit:
        q, r, offset, singular = self._solved[name]
        scaled = y * self._root[:, None]
        # |y - o|^2 - |Q'(y - o)|^2, without an array of candidates x points x columns.
        projected = np.matmul(q, scaled) - np.matmul(q, offset[:, :, None])
        total = (scaled**2).sum(axis=0)[None] - 2 * offset @ scaled + (offset**2).sum(axis=1)[:, None]
        rss = total - (projected**2).sum(axis=1)
        coefficients = _back(r, projected)
        slope, bend = self._slopes(name, coefficients)
        low, high = SLOPE_LIMITS
        rss = np.where(singular[:, None] | (slope < low) | (slope > high) | (bend <= 0), np.inf, np.maximum(rss, 0))
        best, columns = rss.argmin(axis=0), np.arange(y.shape[1])
        parameters = _PARAMETERS[name] + 2
        return Fit(
            knee=self._knees[best],
            sharpness=self._sharpness[best],
            level=coefficients[best, 0, columns],
            slope=slope[best, columns],
            bend=bend[best, columns],
            rss=rss[best, columns],
            bic=bic(rss[best, columns], y.shape[0], parameters),
            parameters=np.full(y.shape[1], parameters),
        )

    @staticmethod
    def _slopes(name: str, coefficients: Array) -> tuple[Array, Array]:
        ones = np.ones_like(coefficients[:, 0])
        match name:
            case "unit":
                return ones, ones
            case "flat":
                return coefficients[:, 1], coefficients[:, 1]
            case _:
                return coefficients[:, 1], coefficients[:, 2]
