"""Colours, symbols and words. Pure: figures and pages share it, and every colour reads on light and on dark.

The hues are those of the Okabe-Ito set (blue, vermilion, bluish green, reddish purple), which stay apart under the
common colour-vision deficiencies (M. Okabe and K. Ito, "Color Universal Design", 2008), moved in lightness until each
has the 3:1 contrast of WCAG 2.2 (1.4.11) on both page backgrounds; ``tests/dashboards/test_theme.py`` computes it.
Colour never stands alone: a symbol and a word go with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.model import RunStatus, Severity, Verdict

LIGHT_BACKGROUND, DARK_BACKGROUND = "#ffffff", "#14171c"
"""The page backgrounds of ``.streamlit/config.toml``."""

BLUE = "#1f7ac0"
ORANGE = "#d9660f"
TEAL = "#0f8f73"
PURPLE = "#a964a0"
CRIMSON = "#c9405f"
GREY = "#7d8590"
SERIES = (BLUE, ORANGE, TEAL, PURPLE, GREY)

PHASE_TINTS: dict[str, str] = {
    "preflight": "rgba(125, 133, 144, 0.10)",
    "build": "rgba(169, 100, 160, 0.10)",
    "load": "rgba(15, 143, 115, 0.10)",
    "warmup": "rgba(217, 102, 15, 0.10)",
    "measure": "rgba(31, 122, 192, 0.13)",
    "drain": "rgba(125, 133, 144, 0.10)",
    "profile": "rgba(169, 100, 160, 0.10)",
    "accuracy": "rgba(15, 143, 115, 0.10)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one state is shown.

    Attributes:
        word: The word that a person reads.
        symbol: One character for tables and sentences.
        icon: Material icon of a badge.
        badge: Colour name of a Streamlit badge.
        colour: Colour in figures.
        marker: Plotly marker symbol.
    """

    word: str
    symbol: str
    icon: str
    badge: str
    colour: str
    marker: str

    @property
    def text(self) -> str:
        """Symbol and word."""
        return f"{self.symbol} {self.word}"


def _look(word: str, symbol: str, icon: str, badge: str, colour: str, marker: str) -> Look:
    return Look(word=word, symbol=symbol, icon=f":material/{icon}:", badge=badge, colour=colour, marker=marker)


VERDICTS: dict[Verdict, Look] = {
    Verdict.FAILED: _look("failed", "✖", "error", "red", CRIMSON, "x"),
    Verdict.REGRESSED: _look("regressed", "◆", "trending_down", "orange", ORANGE, "diamond"),
    Verdict.NOT_COMPARABLE: _look("not comparable", "≠", "compare_arrows", "violet", PURPLE, "square-open"),
    Verdict.INCONCLUSIVE: _look("inconclusive", "?", "help", "gray", GREY, "circle-open"),
    Verdict.IMPROVED: _look("improved", "★", "trending_up", "blue", BLUE, "star"),
    Verdict.UNCHANGED: _look("unchanged", "✓", "check", "green", TEAL, "circle"),
}
NO_DATA = _look("not enough data yet", "…", "hourglass_empty", "gray", GREY, "circle-open")
NOT_JUDGED = _look("not judged yet", "…", "gavel", "gray", GREY, "circle-open")

STATUSES: dict[RunStatus, Look] = {
    RunStatus.OK: _look("ok", "✓", "check", "green", TEAL, "circle"),
    RunStatus.FAILED: _look("failed", "✖", "error", "red", CRIMSON, "x"),
    RunStatus.NOT_AVAILABLE: _look("not available", "○", "block", "gray", GREY, "x-thin"),
}
REJECTED = _look("ok, rejected", "▲", "do_not_disturb_on", "orange", ORANGE, "x-thin")
"""A run that came to its end and does not count: never green."""


def run_look(status: str, *, valid: bool) -> Look:
    """Return how a run's ending is shown."""
    return REJECTED if status == RunStatus.OK and not valid else STATUSES[RunStatus(status)]


SEVERITIES: dict[Severity, Look] = {
    Severity.CRITICAL: _look("critical", "✖", "error", "red", CRIMSON, "x"),
    Severity.WARNING: _look("warning", "▲", "warning", "orange", ORANGE, "triangle-up"),
    Severity.INFO: _look("info", "ℹ", "info", "blue", BLUE, "circle"),
}


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two ``#rrggbb`` colours (WCAG 2.2, definition of "contrast ratio")."""
    bright, dim = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
