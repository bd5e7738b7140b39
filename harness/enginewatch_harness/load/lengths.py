"""How prompt and output lengths vary from request to request. Pure.

Draws stay between 1 token and five standard deviations above the middle, so that a server can be given a context
that fits. A distribution whose mean these bounds would move by more than 1 % is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.draws import Draws

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATA = "data"
FORMS = "uniform:LOW-HIGH, normal:SD, lognormal:SIGMA or data"
TAIL = 5.0
"""Upper bound of a draw in standard deviations (of its logarithm for ``lognormal``): one draw in 3.5 million."""

MEAN_SHIFT = 0.01
LONGEST = 10_000_000
"""No context is longer; keeps every product within a machine word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """One length distribution in tokens.

    Attributes:
        kind: ``fixed``, ``uniform``, ``normal``, ``lognormal`` or ``data``.
        mean: Mean length; of ``data``, the length of a request whose record has none.
        low: Smallest length.
        high: Largest length; ``None`` where only the data know.
        spread: SD of ``normal`` in tokens, sigma of ``lognormal``; 0 elsewhere.
    """

    kind: str
    mean: float
    low: int
    high: int | None
    spread: float = 0.0


def parse_lengths(text: str | None, mean: int, *, name: str) -> Lengths:
    """Return the distribution that ``text`` describes.

    Args:
        text: One of ``FORMS``; ``None``: every request has the mean.
        mean: ``isl`` or ``osl``.
        name: Which of the two, for errors.

    Raises:
        UsageError: Names the value, the place and what is allowed.
    """
    if mean < 1 or mean > LONGEST:
        raise UsageError(f"load {name} = {mean} must be at least 1 token and at most {LONGEST}")
    if text is None:
        return Lengths(kind="fixed", mean=mean, low=mean, high=mean)
    if text == DATA:
        return Lengths(kind=DATA, mean=mean, low=1, high=None)
    kind, _, rest = text.partition(":")
    reader = {"uniform": _uniform, "normal": _normal, "lognormal": _lognormal}.get(kind)
    if reader is None:
        raise UsageError(f"load {name}_dist = {text!r} is no distribution", remedy=f"write {FORMS}")
    return reader(text, rest, mean, name)


def mean_of(text: str | None) -> int | None:
    """Return the mean that ``uniform:LOW-HIGH`` itself states, rounded down; ``None`` for every other text."""
    kind, _, rest = (text or "").partition(":")
    low, _, high = rest.partition("-")
    return (int(low) + int(high)) // 2 if kind == "uniform" and low.isdecimal() and high.isdecimal() else None


def _uniform(text: str, rest: str, mean: int, name: str) -> Lengths:
    low_text, _, high_text = rest.partition("-")
    if not (low_text.isdecimal() and high_text.isdecimal()) or not 1 <= int(low_text) <= int(high_text) <= LONGEST:
        raise UsageError(
            f"load {name}_dist = {text!r} has no bounds of at least 1 token",
            remedy=f"write them as {name}_dist = 'uniform:{max(1, mean // 2)}-{mean + mean // 2}'",
        )
    low, high = int(low_text), int(high_text)
    if abs(mean - (low + high) / 2) > 0.5:
        raise UsageError(
            f"load {name} = {mean} is not the mean of {name}_dist = {text!r}, which is {(low + high) / 2:g}",
            remedy=f"set {name} = {(low + high) // 2}",
        )
    return Lengths(kind="uniform", mean=(low + high) / 2, low=low, high=high)


def _normal(text: str, rest: str, mean: int, name: str) -> Lengths:
    spread = _spread(text, rest, name, "normal:SD", "the standard deviation in tokens")
    high = mean + math.ceil(TAIL * spread)
    z = (mean - 1) / spread
    # E[max(1, X)] of a normal X: 1 + (mean - 1) Φ(z) + SD φ(z).
    clamped = 1 + (mean - 1) * _phi(z) + spread * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    _check_mean(text, mean, clamped, name)
    return Lengths(kind="normal", mean=mean, low=1, high=_bounded(text, high, name), spread=spread)


def _lognormal(text: str, rest: str, mean: int, name: str) -> Lengths:
    spread = _spread(text, rest, name, "lognormal:SIGMA", "the standard deviation of the logarithm")
    middle = math.log(mean) - spread * spread / 2
    high = math.ceil(math.exp(min(middle + TAIL * spread, 2 * math.log(LONGEST))))
    # E[X; a < X < b] of a lognormal X is mean times the normal probability of the bounds moved by sigma.
    inside = _phi(TAIL - spread) - _phi(-middle / spread - spread)
    clamped = mean * inside + _phi(-middle / spread) + math.exp(middle + TAIL * spread) * _phi(-TAIL)
    _check_mean(text, mean, clamped, name)
    return Lengths(kind="lognormal", mean=mean, low=1, high=_bounded(text, high, name), spread=spread)


def _phi(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def _spread(text: str, rest: str, name: str, form: str, meaning: str) -> float:
    try:
        value = float(rest)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise UsageError(
            f"load {name}_dist = {text!r} has no positive spread", remedy=f"write {form}, where the number is {meaning}"
        )
    return value


def _check_mean(text: str, mean: int, clamped: float, name: str) -> None:
    if abs(clamped - mean) > MEAN_SHIFT * mean:
        raise UsageError(
            f"load {name}_dist = {text!r} is too wide: a request has at least 1 token, "
            f"so the mean would be {clamped:.1f} and not {name} = {mean}",
            remedy="lower the spread, or give recorded lengths with a dataset",
        )


def _bounded(text: str, high: int, name: str) -> int:
    if high > LONGEST:
        raise UsageError(f"load {name}_dist = {text!r} reaches {high} tokens", remedy="lower the spread")
    return high


def sampler(lengths: Lengths, seed: int, tag: str) -> Callable[[int], int]:
    """Return a function from request number to length; ``data`` gives the mean."""
    if lengths.kind in ("fixed", DATA):
        fixed = round(lengths.mean)
        return lambda number: fixed
    return Draws(seed, tag, lambda rng, count: _draw(lengths, rng, count)).at


def _draw(lengths: Lengths, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    import numpy as np

    if lengths.kind == "uniform":
        return rng.integers(lengths.low, lengths.high, size=count, endpoint=True)
    if lengths.kind == "normal":
        drawn = rng.normal(lengths.mean, lengths.spread, count)
    else:
        drawn = rng.lognormal(math.log(lengths.mean) - lengths.spread**2 / 2, lengths.spread, count)
    return np.clip(np.rint(drawn), lengths.low, lengths.high).astype(np.int64)
