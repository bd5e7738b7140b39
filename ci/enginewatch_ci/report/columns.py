"""The columns of a verdict's row, as text: shared by Markdown and terminal."""

from __future__ import annotations

from enginewatch_ci import phrasing
from enginewatch_db.model import Comparison, Verdict

RELEVANT = frozenset({Verdict.FAILED, Verdict.REGRESSED, Verdict.IMPROVED})

MARKS = {
    Verdict.FAILED: "✖",
    Verdict.REGRESSED: "▲",
    Verdict.IMPROVED: "▼",
    Verdict.UNCHANGED: "=",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_COMPARABLE: "≠",
}
"""A sign beside the word, so that colour is never the only carrier; ▲ is worse, ▼ is better."""

HEADINGS = ("Case", "Metric", "Baseline", "Candidate", "Change", "Interval", "Runs", "Verdict")
ABSENT = "–"


def is_relevant(item: Comparison) -> bool:
    """Return whether a reader must see this row without opening the full table."""
    return item.verdict in RELEVANT or item.cause is not None


def cells(item: Comparison) -> tuple[str, ...]:
    """Return the cells of one row, in the order of ``HEADINGS``."""
    effect = item.effect
    return (
        item.case_key,
        item.metric,
        ABSENT if item.baseline_value is None else phrasing.quantity(item.baseline_value, item.metric),
        ABSENT if item.candidate_value is None else phrasing.quantity(item.candidate_value, item.metric),
        ABSENT if effect is None else phrasing.percent(effect.rel),
        ABSENT if effect is None else phrasing.interval(effect.ci_low, effect.ci_high),
        ABSENT if effect is None else f"{effect.n_baseline} / {effect.n_candidate}",
        f"{MARKS[item.verdict]} {phrasing.verdict(item.verdict)}",
    )
