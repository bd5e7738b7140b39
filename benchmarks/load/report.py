"""The table, the ratios and the goals. Pure but for what the caller prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load.measure import Figures

Table = dict[tuple[int, str], Figures]
"""(streams, client) → medians of its figures."""

HEADER = (
    f"{'streams':>7}  {'client':<28}{'tokens/s':>10}{'offered':>9}{'CPU s/M':>9}{'core':>6}"
    f"{'TTFT error p50/p99 ms':>24}{'paired p50/p99':>22}{'ITL error p50/p99':>22}"
    f"{'MB':>7}{'start s':>9}{'late p99':>10}"
)


def _pair(left: float | None, right: float | None) -> str:
    return "- / -" if left is None or right is None else f"{left:.2f} / {right:.2f}"


def line(streams: int, label: str, found: Figures) -> str:
    """Return one line of the table; times in ms, but for the start."""
    return (
        f"{streams:>7}  {label:<28}{found.tokens_per_s:>10.0f}{found.offered_pct:>8.1f}%{found.cpu_s_per_m:>9.1f}"
        f"{found.core_used:>6.2f}{_pair(found.ttft_p50_ms, found.ttft_p99_ms):>24}"
        f"{_pair(found.ttft_paired_p50_ms, found.ttft_paired_p99_ms):>22}"
        f"{_pair(found.itl_p50_ms, found.itl_p99_ms):>22}{found.peak_mb:>7.0f}{found.start_s:>9.2f}"
        f"{found.server_late_p99_ms:>10.2f}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What issue 3 asks for.

    Attributes:
        text: The goal.
        of: The number that decides, from the table; ``KeyError`` or ``ValueError``: a part of it was not measured.
        limit: Its bound.
        at_least: Whether the bound is a lower one.
    """

    text: str
    of: Callable[[Table], float | None]
    limit: float
    at_least: bool = False

    def judged(self, table: Table) -> dict[str, object]:
        """Return the goal with its number and whether it is met; ``None`` where it was not measured."""
        try:
            value = self.of(table)
        except (KeyError, ValueError):
            value = None
        met = None if value is None else (value >= self.limit if self.at_least else value <= self.limit)
        return {"goal": self.text, "value": value, "limit": self.limit, "at_least": self.at_least, "met": met}


def _abs(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _ttft_times(table: Table) -> float | None:
    ours, theirs = table[128, "ours"].ttft_p50_ms, table[128, "aiperf"].ttft_p50_ms
    return None if not ours or theirs is None else abs(theirs) / abs(ours)


GOALS = (
    Goal(
        text="1,024 streams: % of the offered tokens/s",
        of=lambda t: t[1024, "ours"].offered_pct,
        limit=99.0,
        at_least=True,
    ),
    Goal(text="1,024 streams: |TTFT error| p50, ms", of=lambda t: _abs(t[1024, "ours"].ttft_p50_ms), limit=0.3),
    Goal(text="1,024 streams: |TTFT error| p99, ms", of=lambda t: _abs(t[1024, "ours"].ttft_p99_ms), limit=5.0),
    Goal(text="1,024 streams: |ITL error| p50, ms", of=lambda t: _abs(t[1024, "ours"].itl_p50_ms), limit=0.1),
    Goal(text="1,024 streams: CPU s per million tokens", of=lambda t: t[1024, "ours"].cpu_s_per_m, limit=9.0),
    Goal(
        text="1,024 streams: CPU per token over the C client's",
        of=lambda t: t[1024, "ours"].cpu_s_per_m / t[1024, "c"].cpu_s_per_m,
        limit=1.3,
    ),
    Goal(
        text="start-up, s (worst level)",
        of=lambda t: max(f.start_s for (_, who), f in t.items() if who == "ours"),
        limit=0.5,
    ),
    Goal(
        text="peak memory, MB (worst level)",
        of=lambda t: max(f.peak_mb for (_, who), f in t.items() if who == "ours"),
        limit=100.0,
    ),
    Goal(
        text="1,024 streams: tokens/s over AIPerf's, one core each",
        of=lambda t: t[1024, "ours"].tokens_per_s / t[1024, "aiperf"].tokens_per_s,
        limit=5.0,
        at_least=True,
    ),
    Goal(text="128 streams: AIPerf's |TTFT error| p50 over ours", of=_ttft_times, limit=100.0, at_least=True),
)


def goals(table: Table) -> list[dict[str, object]]:
    """Judge every goal."""
    return [goal.judged(table) for goal in GOALS]


def goal_line(judged: dict[str, object]) -> str:
    """Return one line on a goal."""
    mark = {True: "met", False: "NOT met", None: "not measured"}[judged["met"]]  # type: ignore[index]
    value = "-" if judged["value"] is None else f"{judged['value']:.2f}"
    bound = f"{'at least' if judged['at_least'] else 'at most'} {judged['limit']:g}"
    return f"  {judged['goal']:<56}{value:>10}  ({bound}): {mark}"


def ratios(table: Table) -> list[str]:
    """Return our cost and exactness over the C client's, level by level."""
    lines = []
    for streams in sorted({streams for streams, _ in table}):
        if (streams, "ours") in table and (streams, "c") in table:
            ours, c = table[streams, "ours"], table[streams, "c"]
            lines.append(
                f"  {streams:>5} streams: tokens/s {ours.tokens_per_s / c.tokens_per_s:.3f}, "
                f"CPU per token {ours.cpu_s_per_m / c.cpu_s_per_m:.2f}, memory {ours.peak_mb / c.peak_mb:.1f}"
            )
    return lines
