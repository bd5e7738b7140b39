"""Validity reasons as pages tell them: which ones reject, and which ones explain a whole session. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_db.model import RunStatus
from enginewatch_db.validity import REASONS, ValidityEffect

MANY = 0.25
"""Share of the finished runs from which a reason explains why comparisons are open."""
DISTURBING = frozenset(
    {"host_busy", "clocks_unstable", "power_capped", "gpu_time_unstable", "not_steady", "multiple_streams"}
)
"""Reasons that let a run count and still widen intervals: more repeats under them settle nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A reason that holds for many runs.

    Attributes:
        code: Key of ``REASONS``.
        n: Finished runs that have it.
        total: Finished runs.
    """

    code: str
    n: int
    total: int

    @property
    def told(self) -> str:
        """Return what it means for these runs, in a sentence."""
        does = "rejects" if rejects(self.code) else "marks"
        return f"{self.code} {does} {self.n} of {fmt.count(self.total, 'run')}: {REASONS[self.code].description}"

    @property
    def remedy(self) -> str:
        """Return what to do about it."""
        return REASONS[self.code].remedy


def rejects(code: str) -> bool:
    """Return whether a reason takes its run out of verdicts."""
    return code in REASONS and REASONS[code].effect is ValidityEffect.REJECT


def rejecting(codes: Iterable[str] | None) -> list[str]:
    """Return the reasons that take runs out of verdicts, each once, in order."""
    return sorted({code for code in codes or () if rejects(code)})


def rejecting_first(codes: Iterable[str] | None) -> list[str]:
    """Return all reasons, those that take the run out of verdicts first."""
    return sorted(codes or (), key=lambda code: not rejects(code))


def causes(runs: Sequence[Mapping[str, Any]]) -> list[Cause]:
    """Return the reasons that hold for many of the finished runs, the most frequent first.

    Args:
        runs: Rows of the query ``runs``.
    """
    ended = [run for run in runs if run["status"] == RunStatus.OK]
    found = Counter(code for run in ended for code in set(run["reason_codes"] or ()))
    told = [
        Cause(code=code, n=n, total=len(ended))
        for code, n in found.items()
        if n >= MANY * len(ended) and (rejects(code) or code in DISTURBING)
    ]
    return sorted(told, key=lambda cause: (-cause.n, cause.code))
