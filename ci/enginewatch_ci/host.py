"""The host as its own control: did the machine move, or the code? And do all cases move together? Pure.

Two sessions lie minutes or days apart. Every run times a fixed piece of CPU work in its own process
(``host_sentinel_ms``). If that work got slower from one session to the other, the machine did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from enginewatch_ci.comparable import CasePair
from enginewatch_ci.facts import RunFacts
from enginewatch_ci.phrasing import interval, percent
from enginewatch_ci.stats import LogEffect, Sample, estimate_effect

SENTINEL = "host_sentinel_ms"
BUSY_SHARE = 0.5
COHORT_SHARE = 2 / 3
COHORT_MIN_CASES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShift:
    """How much slower the host itself is in the candidate (log units; above zero: slower).

    Attributes:
        shift: log(candidate sentinel) - log(baseline sentinel).
        half_width: Half the width of its interval.
        n_baseline: Runs behind the baseline's.
        n_candidate: Runs behind the candidate's.
    """

    shift: float
    half_width: float
    n_baseline: int
    n_candidate: int

    @property
    def rel(self) -> float:
        """Relative change of the sentinel's time."""
        return float(np.expm1(self.shift))

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of its interval, relative."""
        return float(np.expm1(self.shift - self.half_width)), float(np.expm1(self.shift + self.half_width))

    @property
    def moved(self) -> bool:
        """Whether the interval excludes no change at all."""
        return abs(self.shift) > self.half_width

    def tells(self, threshold_rel: float) -> bool:
        """Return whether it can serve as a control: it moved, or is known more finely than the change that matters.

        A sentinel that a crowded host tosses about by 60 % proves nothing; to demand that a regression stand out
        from that would mean to see none.
        """
        return self.moved or self.half_width <= float(np.log1p(threshold_rel))

    @property
    def text(self) -> str:
        """The change with its interval."""
        return f"{percent(self.rel)} {interval(*self.bounds)}"


def host_shift(pairs: Sequence[CasePair], confidence: float) -> HostShift | None:
    """Return the sentinel's change over all valid runs of the paired cases; ``None`` where it was not measured.

    Cases leave their own trace on the sentinel (caches, threads that still spin), so each case is first centred on
    the mean of its two medians; a case with more runs in one arm then does not look like a change.
    """
    arms: tuple[list[float], list[float]] = ([], [])
    ids: tuple[list[str], list[str]] = ([], [])
    for pair in pairs:
        logs = [_logs(pair.baseline), _logs(pair.candidate)]
        if not logs[0] or not logs[1]:
            continue
        centre = (float(np.median(logs[0])) + float(np.median(logs[1]))) / 2
        for side, runs in enumerate((pair.baseline, pair.candidate)):
            arms[side].extend(value - centre for value in logs[side])
            ids[side].extend(run.run_id for run in runs)
    if min(len(arms[0]), len(arms[1])) < 2:
        return None
    found = estimate_effect(*(Sample(logs=np.array(arms[side]), key=" ".join(ids[side])) for side in (0, 1)))
    if found is None:
        return None
    return HostShift(
        shift=found.shift,
        half_width=found.half_width(confidence),
        n_baseline=found.n_baseline,
        n_candidate=found.n_candidate,
    )


def _logs(runs: Sequence[RunFacts]) -> list[float]:
    values = [run.value(SENTINEL) for run in runs]
    return [float(np.log(value)) for value in values if value is not None and value > 0]


def normalised(effect: LogEffect, host: HostShift, confidence: float, *, faster_is_more: bool) -> tuple[float, float]:
    """Return the interval of the change that the host's own change does not explain, in log units.

    The two intervals are symmetric and independent, so their half-widths add in squares (G. Y. Zou and A. Donner,
    "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008).

    Args:
        effect: The raw effect.
        host: The sentinel's change.
        confidence: Level of the interval.
        faster_is_more: Whether a faster host raises the metric (throughput) instead of lowering it (latency).
    """
    shift = effect.shift + host.shift if faster_is_more else effect.shift - host.shift
    half = float(np.hypot(effect.half_width(confidence), host.half_width))
    return shift - half, shift + half


def contested(pair: CasePair, metric: str) -> str | None:
    """Return why other programs on the CPU forbid a conclusion about a case that runs on it; ``None``: they do not.

    A neighbour that takes the core away for a scheduler's slice of some milliseconds does not show in the sentinel's
    median, but it is the tail: measured on a two-core host with foreign load, p99 of unchanged code rose by 89 %
    [27 %, 180 %]. So a tail is judged only when fewer than half of the runs of each side were ``host_busy``; medians
    and throughput bear a neighbour, but not one who is there on one side only.
    """
    counts = [(_busy(runs), len(runs)) for runs in (pair.baseline, pair.candidate)]
    shares = [busy / runs for busy, runs in counts]
    is_tail = any(part in metric for part in ("_p9", "_tail", "_max"))
    if abs(shares[1] - shares[0]) <= BUSY_SHARE and not (is_tail and max(shares) >= BUSY_SHARE):
        return None
    sides = " and ".join(
        f"{busy} of {runs} {side} runs" for (busy, runs), side in zip(counts, ("baseline", "candidate"), strict=True)
    )
    return f"other programs used the CPU in {sides} (host_busy)"


def _busy(runs: Sequence[RunFacts]) -> int:
    return sum(any(reason.code == "host_busy" for reason in run.reasons) for run in runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Most cases moved the same way.

    Attributes:
        moved: How many did.
        cases: Out of how many.
        median_rel: Median of their slow-down as a relative change of time; above zero: slower.
    """

    moved: int
    cases: int
    median_rel: float

    @property
    def text(self) -> str:
        """One sentence."""
        way = "slower" if self.median_rel > 0 else "faster"
        return (
            f"{self.moved} of {self.cases} cases became {way} together (median {percent(self.median_rel)}): "
            "look for something they share (host, driver, image, library) before blaming one model"
        )


def cohort(slowdowns: Sequence[tuple[float, float]]) -> Cohort | None:
    """Return the cohort when at least two thirds of three or more cases moved the same way; else ``None``.

    Args:
        slowdowns: Per case, the log change of time of its first metric (throughput counted backwards) and the half
            width of its interval.
    """
    for sign in (1, -1):
        moved = [shift for shift, half in slowdowns if sign * shift > half]
        if len(slowdowns) >= COHORT_MIN_CASES and len(moved) >= COHORT_SHARE * len(slowdowns):
            return Cohort(moved=len(moved), cases=len(slowdowns), median_rel=float(np.expm1(np.median(moved))))
    return None
