"""Numbers as people read them: one place, so that sentence, table and JUnit agree."""

from __future__ import annotations

from collections.abc import Iterable

from enginewatch_db.metrics import METRICS
from enginewatch_db.model import Comparison, Effect, Verdict


def percent(rel: float, digits: int = 1) -> str:
    """Return a relative change as ``+10.3 %``; more digits below 1 %."""
    digits = digits if abs(rel) >= 0.01 else max(digits, 2)
    rounded = round(rel * 100, digits)
    return f"{rounded:+.{digits}f} %" if rounded else "0.0 %"


def threshold(rel: float) -> str:
    """Return a threshold as ``5 %``."""
    return f"{rel * 100:g} %"


def quantity(value: float, metric: str) -> str:
    """Return a value with four significant digits and its unit."""
    unit = METRICS[metric].unit
    digits = f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return digits if unit == "1" else f"{digits} {unit}"


def interval(low: float, high: float) -> str:
    """Return an interval of relative changes."""
    return f"[{percent(low)}, {percent(high)}]"


def effect(found: Effect) -> str:
    """Return an effect with its interval."""
    return f"{percent(found.rel)} {interval(found.ci_low, found.ci_high)}"


def runs(found: Effect) -> str:
    """Return the numbers of runs and the confidence."""
    return f"{found.confidence * 100:g} %, {found.n_baseline} against {found.n_candidate} runs"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def counting(valid: int, every: int) -> str:
    """Return ``1 of 5 runs counts`` or ``3 of 5 runs count``."""
    return f"{valid} of {count(every, 'run')} count{'s' if valid == 1 else ''}"


def listed(items: Iterable[str], limit: int = 4) -> str:
    """Return ``a, b, c and 2 more``."""
    every = list(items)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def name(comparison: Comparison) -> str:
    """Return case and metric of a comparison."""
    return f"{comparison.case_key} · {comparison.metric}"


def verdict(found: Verdict) -> str:
    """Return a verdict as a word of a sentence; machines read its value."""
    return found.value.replace("_", " ")
