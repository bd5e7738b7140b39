"""The score interval of a share. Pure, and in no need of NumPy: searches use it between runs."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share, as shares in [0, 1].

    It keeps its coverage at shares near 0 and 1, where the normal interval collapses. Source: E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), and L. D. Brown,
    T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001).

    Raises:
        ValueError: ``n`` is not positive, or ``successes`` lies outside [0, n].
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    return wilson_bounds(successes / n, n, NormalDist().inv_cdf(0.5 + confidence / 2))


def wilson_bounds(share: float, n: float, z: float) -> tuple[float, float]:
    """Return the same for a share of ``n`` (which a dispersion may have made a fraction), at ``z`` sigmas."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not put an end inside an impossible share or past the estimate.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
