"""Many comparisons at once: which of them may be called regressed."""

from __future__ import annotations

from collections.abc import Sequence

KEEP_BELOW = 0.8
"""p-values above it are set aside, the rest divided by it; see ``survivors``."""


def survivors(p_values: Sequence[float], level: float) -> tuple[bool, ...]:
    """Return which hypotheses Benjamini and Hochberg reject at ``level``, after conditioning.

    The null hypothesis here is "the change is not beyond the practical threshold": a case that did not change at all
    lies deep inside it and has p close to 1, not uniform. Counting those would make one slow case among fifty
    unchanged ones fifty times harder to see. So p-values above ``KEEP_BELOW`` are set aside and the others divided by
    it (J. L. Ellis, J. Pecanka and J. J. Goeman, "Gaining power in multiple testing of interval hypotheses via
    conditionalization", Biostatistics 21, 2020), then Y. Benjamini and Y. Hochberg, JRSS B 57 (1995). Metrics of one
    case rise and fall together, which that procedure tolerates (Benjamini and Yekutieli, 2001). A Bonferroni widening
    would control the chance of any false alarm instead of their share, at the price of finding less: five slow cases
    must each be as clear as one.

    A single hypothesis is tested as it is: there is no multiplicity.

    Args:
        p_values: One-sided p-values against the practical threshold, in any order.
        level: Tolerated share of false alarms among the rejected.
    """
    if len(p_values) <= 1:
        return tuple(p <= level for p in p_values)
    kept = sorted((p / KEEP_BELOW, index) for index, p in enumerate(p_values) if p <= KEEP_BELOW)
    passed = 0
    for rank, (p, _) in enumerate(kept, start=1):
        if p <= level * rank / len(kept):
            passed = rank
    chosen = {index for _, index in kept[:passed]}
    return tuple(index in chosen for index in range(len(p_values)))
