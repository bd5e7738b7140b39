"""The report on a terminal: a table, the reasons that matter, what to do next. Pure: returns text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from enginewatch_ci import phrasing
from enginewatch_ci.judgement import Judgement
from enginewatch_ci.report.columns import HEADINGS, cells, is_relevant
from enginewatch_ci.report.markdown import reproduce
from enginewatch_ci.summary import next_step
from enginewatch_db.model import Comparison, Verdict
from enginewatch_db.text_columns import fits, fitting, widths, wrapped

STYLES = {
    Verdict.FAILED: "bold red",
    Verdict.REGRESSED: "bold dark_orange",
    Verdict.IMPROVED: "blue",
    Verdict.UNCHANGED: "default",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_COMPARABLE: "yellow",
}
MAX_ROWS = 60

FIRST_TO_GO = ("Interval", "Runs", "Baseline", "Candidate")
"""Columns that a narrow window does without; the other reports have them."""

RIGHT = frozenset({"Baseline", "Candidate", "Change", "Interval", "Runs"})
SEPARATOR = 2
INDENT = "  "
UNLIMITED = 100_000
"""Columns in which rich cuts nothing: what fits the window is decided here."""


def render_text(judgement: Judgement, *, width: int = 120, color: bool = False, wrap: bool = False) -> str:
    """Return the report as text.

    Args:
        judgement: What was concluded.
        width: Columns of the terminal: columns of the table that do not fit are left out, never cut.
        color: Whether to use ANSI colours.
        wrap: Whether sentences end at the width; they stay on one line each where nobody reads them in a window.
    """
    lines = [_rendered(_table(judgement, width), color=color)] if judgement.comparisons else []
    lines += [
        _rendered(Text(wrapped(text, width if wrap else None, indent=INDENT), style=style), color=color)
        for text, style in _sentences(judgement)
    ]
    if judgement.baseline is not None and not judgement.is_baseline:
        # A command is copied as one line, so the terminal must fold it, not we.
        lines.append(_rendered(Text(f"again: {reproduce(judgement)}", style="dim"), color=color))
    return "\n".join(line.rstrip() for text in lines for line in text.splitlines()) + "\n"


def _sentences(judgement: Judgement) -> Iterator[tuple[str, str]]:
    """Yield each line of prose and its style."""
    for item in judgement.comparisons:
        if is_relevant(item) or item.verdict is Verdict.NOT_COMPARABLE:
            yield f"{item.case_key}: {item.why}", STYLES[item.verdict]
    for finding in judgement.breaches:
        yield f"limit: {finding.title}", "yellow"
    if judgement.environment:
        told = phrasing.listed(f"{item.facet} {item.baseline} → {item.candidate}" for item in judgement.environment)
        yield f"environment differs: {told}", ""
    yield judgement.sentence, STYLES[judgement.verdict] if judgement.verdict else "bold"
    yield next_step(judgement.verdict, judgement.candidate), ""


def _rendered(what: RenderableType, *, color: bool) -> str:
    """Return text as rich writes it, in a window that is wide enough for all of it."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=UNLIMITED,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    console.print(what, soft_wrap=isinstance(what, Text))
    return buffer.getvalue()


def _table(judgement: Judgement, width: int) -> RenderableType:
    """Return the rows in the columns that fit; below a line for each case where the case does not fit beside them."""
    shown = judgement.comparisons[:MAX_ROWS]
    columns = {name: [name, *texts] for name, *texts in zip(HEADINGS, *map(cells, shown), strict=True)}
    chosen = fitting(columns, width, first_to_go=FIRST_TO_GO, separator=SEPARATOR)
    more = len(judgement.comparisons) - len(shown)
    caption = [Text(f"{more} more rows: --json -", style="dim italic")] if more else []
    if fits(columns, chosen, width, separator=SEPARATOR):
        return Group(_rows(columns, chosen, shown, range(len(shown)), header=True), *caption)
    del columns["Case"]
    columns["Metric"] = [INDENT + text for text in columns["Metric"]]
    chosen = fitting(columns, width, first_to_go=FIRST_TO_GO, separator=SEPARATOR)
    parts: list[RenderableType] = [_rows(columns, chosen, shown, (), header=True)]
    for case_key in dict.fromkeys(item.case_key for item in shown):
        mine = [idx for idx, item in enumerate(shown) if item.case_key == case_key]
        parts += [Text(case_key, style="bold"), _rows(columns, chosen, shown, mine, header=False)]
    return Group(*parts, *caption)


def _rows(
    columns: Mapping[str, Sequence[str]],
    chosen: Sequence[str],
    items: Sequence[Comparison],
    which: Iterable[int],
    *,
    header: bool,
) -> Table:
    """Return a table of some rows, whose columns are as wide as those of all rows."""
    table = Table(box=None, pad_edge=False, show_header=header)
    found = widths(columns)
    for name in chosen:
        justify: JustifyMethod = "right" if name in RIGHT else "left"
        table.add_column(columns[name][0], justify=justify, no_wrap=True, min_width=found[name])
    for idx in which:
        style = STYLES[items[idx].verdict]
        table.add_row(*(Text(columns[name][idx + 1], style=style) for name in chosen))
    return table
