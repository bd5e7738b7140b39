"""The levels of a load test: lists, ranges, and what they look like in text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from enginewatch_db.errors import UsageError

MAX_LEVELS = 100
_RANGE = re.compile(r"^([0-9.eE]+)-([0-9.eE]+)(?::([x+])([0-9.eE]+))?$")
_HOW = "write 1,8,32, or 1-64 (doubling), 1-64:x4 (times four), 2-10:+2 (two more each)"


def concurrencies(text: str) -> tuple[int, ...]:
    """Return the streams of each level, in the order given and without doubles.

    Args:
        text: Numbers and ranges between commas: ``1,8,32``, ``1-64``, ``1-64:x4``, ``2-10:+2``.

    Raises:
        UsageError: It cannot be read, or is no list of whole numbers from 1.
    """
    found = []
    for value in _levels(text, "--concurrency"):
        whole = round(value)
        if abs(whole - value) > 1e-9 or whole < 1:
            raise UsageError(f"--concurrency {text!r}: {value:g} is no whole number of streams from 1", remedy=_HOW)
        found.append(whole)
    return tuple(dict.fromkeys(found))


def rates(text: str) -> tuple[float, ...]:
    """Return the requests per second of each level, in the order given and without doubles.

    Args:
        text: Numbers and ranges between commas, as for ``concurrencies``; fractions are allowed.

    Raises:
        UsageError: It cannot be read, or a rate is not positive.
    """
    return tuple(dict.fromkeys(_levels(text, "--rate")))


def _levels(text: str, option: str) -> list[float]:
    found: list[float] = []
    for part in text.split(","):
        try:
            found += _part(part.strip())
        except ValueError as error:
            raise UsageError(f"{option} {text!r}: {error}", remedy=_HOW) from error
        if len(found) > MAX_LEVELS:
            raise UsageError(f"{option} {text!r} names more than {MAX_LEVELS} levels", remedy=_HOW)
    return found


def _part(text: str) -> Iterator[float]:
    """Return the levels of one number or range; raises ``ValueError`` with the reason."""
    matched = _RANGE.match(text)
    if matched is None:
        return iter([_positive(text)])
    low, high, how, by = matched.groups()
    first, last = _positive(low), _positive(high)
    step = _positive(by) if by is not None else 2.0
    if last < first:
        raise ValueError(f"{text!r} ends below its start")
    if how != "+" and step <= 1:
        raise ValueError(f"{text!r} multiplies by {step:g}, which never ends")
    return _spread(first, last, step, adds=how == "+")


def _spread(first: float, last: float, step: float, *, adds: bool) -> Iterator[float]:
    """Yield from ``first`` up, and ``last`` in any case."""
    level = first
    for _ in range(MAX_LEVELS):
        if level >= last * (1 - 1e-9):
            break
        yield level
        level = level + step if adds else level * step
    else:
        raise ValueError(f"{first:g}-{last:g} has more than {MAX_LEVELS} levels")
    yield last


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise ValueError(f"{text} is not positive")
    return value
