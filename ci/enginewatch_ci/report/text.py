"""The report on a terminal: a table, the reasons that matter, what to do next. Pure: returns text."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from enginewatch_ci import phrasing
from enginewatch_ci.judgement import Judgement
from enginewatch_ci.report.columns import HEADINGS, cells, is_relevant
from enginewatch_ci.report.markdown import reproduce
from enginewatch_ci.summary import next_step
from enginewatch_db.model import Verdict

STYLES = {
    Verdict.FAILED: "bold red",
    Verdict.REGRESSED: "bold dark_orange",
    Verdict.IMPROVED: "blue",
    Verdict.UNCHANGED: "default",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_COMPARABLE: "yellow",
}
MAX_ROWS = 60


def render_text(judgement: Judgement, *, width: int = 120, color: bool = False) -> str:
    """Return the report as text.

    Args:
        judgement: What was concluded.
        width: Columns of the terminal.
        color: Whether to use ANSI colours.
    """
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    if judgement.comparisons:
        console.print(_table(judgement))
    for item in judgement.comparisons:
        if is_relevant(item) or item.verdict is Verdict.NOT_COMPARABLE:
            console.print(Text(f"{item.case_key}: {item.why}", style=STYLES[item.verdict]), soft_wrap=True)
    for finding in judgement.breaches:
        console.print(Text(f"limit: {finding.title}", style="yellow"), soft_wrap=True)
    if judgement.environment:
        told = phrasing.listed(f"{item.facet} {item.baseline} → {item.candidate}" for item in judgement.environment)
        console.print(Text(f"environment differs: {told}"), soft_wrap=True)
    style = STYLES[judgement.verdict] if judgement.verdict else "bold"
    console.print(Text(judgement.sentence, style=style), soft_wrap=True)
    console.print(Text(next_step(judgement.verdict, judgement.candidate)), soft_wrap=True)
    if judgement.baseline is not None and not judgement.is_baseline:
        console.print(Text(f"again: {reproduce(judgement)}", style="dim"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _table(judgement: Judgement) -> Table:
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for column in table.columns[2:7]:
        column.justify = "right"
    for column in table.columns[2:]:
        column.no_wrap = True
    shown = judgement.comparisons[:MAX_ROWS]
    for item in shown:
        table.add_row(*(Text(cell, style=STYLES[item.verdict]) for cell in cells(item)))
    if len(judgement.comparisons) > len(shown):
        table.caption = f"{len(judgement.comparisons) - len(shown)} more rows: --json -"
    return table
