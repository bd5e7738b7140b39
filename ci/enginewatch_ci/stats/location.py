"""Robust location and scale of a few run-level values. Vectorised over leading axes, for the bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAD_TO_SD = 1.4826
"""Median absolute deviation → standard deviation of a normal law (1 / its 75 % quantile)."""

HUBER_C = 1.345
"""Tuning constant with 95 % efficiency at the normal law (P. J. Huber, "Robust Statistics", 1981, section 4.5)."""

ITERATIONS = 5
"""From the median, so few suffice: the rest of the way is below 1 % of a standard error (tests)."""


def robust_scale(residuals: NDArray[np.float64], *, fitted: int) -> NDArray[np.float64]:
    """Return MAD-type scale along the last axis, kept as an axis of length 1.

    Args:
        residuals: Deviations from ``fitted`` medians, shape (..., n).
        fitted: How many medians were subtracted: each makes about one deviation zero, which says nothing about
            the spread and would halve the scale of three values.
    """
    ordered = np.sort(np.abs(residuals), axis=-1)
    kept = ordered[..., fitted:] if ordered.shape[-1] > fitted else ordered
    scale: NDArray[np.float64] = MAD_TO_SD * np.median(kept, axis=-1, keepdims=True)
    return scale


def centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return deviations from the median along the last axis."""
    deviations: NDArray[np.float64] = values - np.median(values, axis=-1, keepdims=True)
    return deviations


def huber(
    values: NDArray[np.float64], scale: NDArray[np.float64], c: float = HUBER_C
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Huber's M-estimate of location and its estimated variance along the last axis.

    The variance is the sandwich ``scale² Σψ² / (n - 1) / (share with |r| <= c)² / n`` (Huber 1981, section 6.3);
    the share is kept above one half, since a share of a few values is noise.

    Args:
        values: Shape (..., n), n >= 2.
        scale: Shape (..., 1), above zero.
        c: Residuals beyond ``c`` scales count as if they lay there.
    """
    location = np.median(values, axis=-1, keepdims=True)
    for _ in range(ITERATIONS):
        weights = np.minimum(1.0, c * scale / np.maximum(np.abs(values - location), 1e-300))
        location = (weights * values).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    residuals = (values - location) / scale
    n = values.shape[-1]
    share = np.maximum((np.abs(residuals) <= c).mean(axis=-1), 0.5)
    spread = (np.clip(residuals, -c, c) ** 2).sum(axis=-1) / (n - 1)
    return location[..., 0], scale[..., 0] ** 2 * spread / share**2 / n
