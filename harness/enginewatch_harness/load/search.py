"""Searches over load as state machines: ask which runs to do, be told what they brought, until done. Pure.

``ask`` returns the next block of runs, or nothing when the search has its answer or its budget is spent; ``feed``
takes what the runs brought. Whoever drives it decides how a run is done and in which order those of a block are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from enginewatch_harness.load.knee import Knee, NoKnee, Point, find_knee
from enginewatch_harness.load.wilson import wilson_bounds

FLAT_LEVELS = 2
"""So many levels in a row that bring nothing more end the doubling."""

COARSE_GAIN = 0.10
"""Doubling the load has stopped to help when it brings less than this, twice in a row."""

SPREAD = (2**-0.5, 1.0, 2**0.5)
"""Refinement measures the knee itself and a half octave to either side ..."""

ANCHORS = (0.25, 4.0)
"""... and then, where that is not enough, what fixes the two asymptotes."""

LEVEL_ROUNDING = 1.02
TRIES = 3
"""Runs of a level that bring nothing before the level itself is to blame, and not a moment of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A run to do: its level (streams, or requests per second)."""

    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a search may look.

    Attributes:
        low: Smallest level.
        high: Largest level.
        whole: Levels are whole numbers (streams), not rates.
        max_runs: Runs that may be spent.
        tolerance: How exact the answer is to be, as a share of it.
    """

    low: float
    high: float
    whole: bool
    max_runs: int = 40
    tolerance: float = 0.10

    def level(self, value: float) -> float:
        """Return the nearest level that is allowed."""
        inside = min(max(value, self.low), self.high)
        return float(round(inside)) if self.whole else float(f"{inside:.3g}")


@dataclass(slots=True, kw_only=True)
class KneeSearch:
    """Finds where throughput stops growing: doubling first, then runs around the knee until its interval is small.

    Attributes:
        limits: Where to look, and how exact.
        points: What the runs brought; a run that failed brought nothing.
        spent: Runs that were asked for and fed.
        answer: The knee or why there is none; ``None`` while levels are doubled.
    """

    limits: Limits
    points: list[Point] = field(default_factory=list)
    spent: int = 0
    answer: Knee | NoKnee | None = None
    _next: float | None = None
    _flat: int = 0
    _nothing: int = 0
    _coarse: bool = True
    _refined: int = 0

    def ask(self) -> tuple[Ask, ...]:
        """Return the next runs; none when the search is over."""
        left = self.limits.max_runs - self.spent
        if left <= 0:
            return ()
        if self._coarse:
            return (Ask(level=self.limits.level(self._next or self.limits.low)),)
        return tuple(Ask(level=level) for level in self._refinement()[:left])

    def feed(self, asked: Sequence[Ask], throughputs: Sequence[float | None]) -> None:
        """Take what each run brought; ``None`` where it failed or does not count."""
        self.spent += len(asked)
        for run, value in zip(asked, throughputs, strict=True):
            if value is not None and value > 0:
                self.points.append(Point(load=run.level, throughput=value))
        if self._coarse:
            self._coarse = self._climb(asked[0].level, throughputs[0])
            if self._coarse and self.spent < self.limits.max_runs:
                return
        else:
            self._refined += 1
        self.answer = find_knee(self.points)

    def _climb(self, level: float, value: float | None) -> bool:
        """Decide whether to double once more, and prepare it."""
        self._nothing = self._nothing + 1 if value is None else 0
        if 0 < self._nothing < TRIES:
            self._next = level
            return True
        self._nothing = 0
        best = max((point.throughput for point in self.points if point.load < level), default=0.0)
        # A level at which nothing works is beyond the knee, as one that brings nothing more is.
        useless = value is None or value < best * (1 + COARSE_GAIN)
        self._flat = self._flat + 1 if useless else 0
        self._next = level * 2
        return self._flat < FLAT_LEVELS and level < self.limits.high * (1 - 1e-9)

    def _refinement(self) -> list[float]:
        answer, limits = self.answer, self.limits
        if isinstance(answer, Knee):
            if self._refined and answer.half_width_rel <= limits.tolerance:
                return []
            wanted = [answer.load * factor for factor in (*SPREAD, *(ANCHORS if self._refined % 2 else ()))]
        elif isinstance(answer, NoKnee) and self._refined < 2 and self._may_be_noise(answer):
            # Too little to see a bend: repeat the levels, and put new ones between them.
            loads = sorted({point.load for point in self.points})
            wanted = [*loads, *(math.sqrt(a * b) for a, b in pairwise(loads))]
        else:
            return []
        return list(dict.fromkeys(limits.level(value) for value in wanted))

    def _may_be_noise(self, answer: NoKnee) -> bool:
        """Return whether more runs could still show a knee: one run a level may hide a bend."""
        # Growth up to a last level that brought nothing more is not believed of so few runs.
        return answer.code in ("too_few_levels", "no_bend") or (answer.code == "still_growing" and self._flat > 0)

    @property
    def settled(self) -> bool:
        """Whether the answer is as exact as asked for."""
        return isinstance(self.answer, Knee) and self.answer.half_width_rel <= self.limits.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Attained:
    """How many requests of one run met every objective; a failed one did not."""

    good: int
    total: int


def attainment(runs: Sequence[Attained], z: float = 1.645) -> tuple[float, float, float] | None:
    """Return share and one-sided bounds (95 % each) of good requests, over the runs of one level.

    Wilson's interval (JASA 22, 1927) with the number of requests divided by the dispersion between runs: requests
    of one run share its queue, so runs may differ by more than chance (McCullagh and Nelder, "Generalized Linear
    Models", 1989, section 4.5).

    Returns:
        ``None`` without requests.
    """
    total = sum(run.total for run in runs)
    if total == 0:
        return None
    share = sum(run.good for run in runs) / total
    return share, *wilson_bounds(share, total / _dispersion(runs, share), z)


def _dispersion(runs: Sequence[Attained], share: float) -> float:
    counted = [run for run in runs if run.total]
    if len(counted) < 2 or not 0 < share < 1:
        return 1.0
    chi2 = sum((run.good - run.total * share) ** 2 / (run.total * share * (1 - share)) for run in counted)
    return max(1.0, chi2 / (len(counted) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelVerdict:
    """What is known about one level.

    Attributes:
        level: The level.
        passes: Whether it meets the SLO.
        sure: Whether the bounds say so; else the share itself decided, after the last repeat.
        share: Share of good requests; ``None`` where no run brought any.
        low: Its lower bound.
        high: Its upper bound.
        runs: Runs behind it.
    """

    level: float
    passes: bool
    sure: bool
    share: float | None
    low: float | None
    high: float | None
    runs: int


@dataclass(slots=True, kw_only=True)
class SloSearch:
    """Finds the highest load that meets the SLO: doubling until it fails, then halving the bracket.

    A level passes when the lower bound of its share of good requests reaches ``target``, and fails when the upper
    bound does not. Between them it is repeated, ``max_repeats`` times at most; then the share decides, and the
    answer says that it is not sure.

    Attributes:
        limits: Where to look, and how exact.
        target: Share of requests that must meet every objective.
        max_repeats: Most runs of one level.
        runs: What each level brought.
        blank: Runs of each level that brought nothing; after ``TRIES`` of them the level fails.
        spent: Runs that were fed.
    """

    limits: Limits
    target: float = 0.95
    max_repeats: int = 3
    runs: dict[float, list[Attained]] = field(default_factory=dict)
    blank: dict[float, int] = field(default_factory=dict)
    spent: int = 0

    def ask(self) -> tuple[Ask, ...]:
        """Return the next run; none when the search is over."""
        if self.spent >= self.limits.max_runs:
            return ()
        level = self._next_level()
        return () if level is None else (Ask(level=level),)

    def feed(self, asked: Sequence[Ask], brought: Sequence[Attained | None]) -> None:
        """Take what each run brought; ``None`` where it failed as a whole, or does not count."""
        self.spent += len(asked)
        for run, found in zip(asked, brought, strict=True):
            if found is not None:
                self.runs.setdefault(run.level, []).append(found)
                continue
            self.blank[run.level] = self.blank.get(run.level, 0) + 1
            if self.blank[run.level] >= TRIES and run.level not in self.runs:
                # Enough requests that the verdict is sure: a level at which no run works meets no objective.
                self.runs[run.level] = [Attained(good=0, total=1000)]

    def verdicts(self) -> list[LevelVerdict]:
        """Return what is known of each level, ascending."""
        return [self._verdict(level) for level in sorted(self.runs)]

    def _verdict(self, level: float) -> LevelVerdict:
        runs = self.runs[level]
        found = attainment(runs)
        if found is None:
            return LevelVerdict(level=level, passes=False, sure=False, share=None, low=None, high=None, runs=len(runs))
        share, low, high = found
        sure = low >= self.target or high < self.target
        return LevelVerdict(
            level=level, passes=share >= self.target, sure=sure, share=share, low=low, high=high, runs=len(runs)
        )

    def _open(self, verdict: LevelVerdict) -> bool:
        tried = verdict.runs + self.blank.get(verdict.level, 0)
        return not verdict.sure and tried < self.max_repeats

    def bracket(self) -> tuple[float | None, float | None]:
        """Return the highest level below every failure that passes, and the lowest that fails."""
        verdicts = self.verdicts()
        fails = min((item.level for item in verdicts if not item.passes), default=None)
        passing = [item.level for item in verdicts if item.passes and (fails is None or item.level < fails)]
        return (max(passing) if passing else None), fails

    def _next_level(self) -> float | None:
        limits = self.limits
        again = [level for level in self.blank if level not in self.runs]
        if again:
            return again[0]
        if not self.runs:
            return limits.level(limits.low)
        unsure = [item.level for item in self.verdicts() if self._open(item)]
        passes, fails = self.bracket()
        # Only the two ends of the bracket decide; what lies elsewhere needs no certainty.
        for level in unsure:
            if level in (passes, fails):
                return level
        if passes is None:
            return None
        if fails is None:
            return None if passes >= limits.high * (1 - 1e-9) else limits.level(passes * 2)
        return self._between(passes, fails)

    def _between(self, passes: float, fails: float) -> float | None:
        limits = self.limits
        if limits.whole:
            if fails - passes <= max(1.0, limits.tolerance * passes):
                return None
            middle = math.sqrt(passes * fails)
            return float(min(max(round(middle), passes + 1), fails - 1))
        if fails <= passes * (1 + limits.tolerance) or fails <= passes * LEVEL_ROUNDING:
            return None
        return limits.level(math.sqrt(passes * fails))

    def answer(self) -> SloAnswer:
        """Return the highest load that is known to meet the SLO."""
        passes, fails = self.bracket()
        known = {item.level: item for item in self.verdicts()}
        ends = [known[level] for level in (passes, fails) if level is not None]
        sure = bool(ends) and all(item.sure for item in ends)
        closed = fails is not None and passes is not None and self._between(passes, fails) is None
        closed = closed and not self._nothing_counts(fails)
        return SloAnswer(
            passes=passes, fails=fails, sure=sure, closed=closed, runs=self.spent, why=self._why(passes, fails, closed)
        )

    def _nothing_counts(self, level: float | None) -> bool:
        return level is not None and self.blank.get(level, 0) >= TRIES

    def _why(self, passes: float | None, fails: float | None, closed: bool) -> str | None:
        if closed:
            return None
        if fails is not None and self._nothing_counts(fails):
            return f"no run at {fails:g} counts"
        if passes is None and fails is not None:
            return f"the lowest load, {fails:g}, misses the SLO already"
        if fails is None and passes is not None and passes >= self.limits.high * (1 - 1e-9):
            return f"the highest load that was allowed, {passes:g}, meets the SLO"
        return f"{self.spent} runs were spent before the bracket was narrow enough"


@dataclass(frozen=True, slots=True, kw_only=True)
class SloAnswer:
    """The highest load that meets the SLO lies between ``passes`` (included) and ``fails`` (excluded).

    Attributes:
        passes: Highest level that meets it; ``None`` where none does.
        fails: Lowest level that misses it; ``None`` where none does.
        sure: Whether the bounds of both ends say so.
        closed: Whether the two are as close as asked for.
        runs: Runs that it took.
        why: Why there is no closed bracket; ``None`` where there is.
    """

    passes: float | None
    fails: float | None
    sure: bool
    closed: bool
    runs: int
    why: str | None
