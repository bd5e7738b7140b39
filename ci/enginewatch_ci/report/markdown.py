"""Markdown for a step summary or one sticky comment: the verdict first, noise folded away. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from enginewatch_ci import phrasing
from enginewatch_ci.judgement import Judgement
from enginewatch_ci.report.columns import HEADINGS, cells, is_relevant
from enginewatch_ci.summary import next_step
from enginewatch_db.model import Comparison, Verdict

MARKER = "<!-- enginewatch-gate -->"
"""First line, by which a job finds the comment that it must replace."""

MAX_CHARS = 60_000
"""GitHub refuses comments of more than 65,536 characters."""


def escape(text: str) -> str:
    """Return text that cannot break out of a table cell or become HTML."""
    flat = " ".join(text.split())
    for old, new in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`")):
        flat = flat.replace(old, new)
    return flat.replace("*", "\\*").replace("_", "\\_")


def render_markdown(judgement: Judgement) -> str:
    """Return the report: sentence, failures, relevant rows, limits, environment, full table, how to repeat it."""
    parts = [MARKER, "### enginewatch", f"**{escape(judgement.sentence)}**"]
    parts += _failures(judgement)
    relevant = [item for item in judgement.comparisons if is_relevant(item) and item.verdict is not Verdict.FAILED]
    if relevant:
        parts += [_table(relevant), _whys(relevant)]
    parts += _host(judgement)
    if judgement.uncovered:
        cases = ", ".join(escape(case) for case in judgement.uncovered)
        parts.append(f"**Not judged, though the baseline has {_them(judgement.uncovered)}:** {cases}")
    parts += _limits(judgement)
    parts += _environment(judgement)
    tail = _reproduce(judgement)
    room = MAX_CHARS - sum(len(part) + 2 for part in (*parts, *tail))
    parts += _full_table(judgement.comparisons, room)
    return "\n\n".join([*parts, *tail]) + "\n"


def _them(items: Sequence[str]) -> str:
    return "it" if len(items) == 1 else "them"


def _table(items: Iterable[Comparison]) -> str:
    rows = [f"| {' | '.join(HEADINGS)} |", "|---|---|--:|--:|--:|---|--:|---|"]
    rows += [f"| {' | '.join(escape(cell) for cell in cells(item))} |" for item in items]
    return "\n".join(rows)


def _whys(items: Iterable[Comparison]) -> str:
    lines = []
    for item in items:
        lines.append(f"- **{escape(item.case_key)}**: {escape(item.why)}.")
        lines += [f"  - {escape(note)}" for note in item.notes]
    return "\n".join(lines)


def _failures(judgement: Judgement) -> list[str]:
    failed = [item for item in judgement.comparisons if item.verdict is Verdict.FAILED]
    if not failed:
        return []
    return ["#### New failures", "\n".join(f"- **{escape(item.case_key)}**: {escape(item.why)}" for item in failed)]


def _host(judgement: Judgement) -> list[str]:
    lines = []
    host = judgement.host
    if host is not None and host.moved:
        lines.append(f"- the host itself moved by {escape(host.text)} (its own sentinel, all runs of both sides)")
    if judgement.cohort is not None:
        lines.append(f"- {escape(judgement.cohort.text)}")
    return ["\n".join(lines)] if lines else []


def _limits(judgement: Judgement) -> list[str]:
    if not judgement.breaches:
        return []
    failing = judgement.failing_breaches
    lines = [
        f"- {escape(finding.title)}{' (fails the gate by policy)' if finding in failing else ''}"
        for finding in judgement.breaches
    ]
    return ["#### Limits not met", "\n".join(lines)]


def _environment(judgement: Judgement) -> list[str]:
    if not judgement.environment:
        return []
    rows = ["| Facet | Baseline | Candidate |", "|---|---|---|"]
    rows += [
        f"| {escape(item.facet)} | {escape(item.baseline)} | {escape(item.candidate)} |"
        for item in judgement.environment
    ]
    return ["#### Environment differences", "\n".join(rows)]


def _full_table(comparisons: Sequence[Comparison], room: int) -> list[str]:
    if not comparisons:
        return []
    kept = list(comparisons)
    while kept:
        left_out = len(comparisons) - len(kept)
        note = f"\n\n{left_out} more rows are in the JSON and JUnit reports." if left_out else ""
        count = phrasing.count(len(comparisons), "comparison")
        text = f"<details><summary>All {count}</summary>\n\n{_table(kept)}{note}\n\n</details>"
        if len(text) <= room:
            return [text]
        kept = kept[: len(kept) * 3 // 4]
    return []


def _reproduce(judgement: Judgement) -> list[str]:
    command = "\n".join(["```sh", reproduce(judgement), "```"])
    return ["#### Next", escape_code_safe(next_step(judgement.verdict, judgement.candidate)), command]


def escape_code_safe(text: str) -> str:
    """Return our own sentences, whose backticks are meant."""
    return text.replace("<", "&lt;")


def reproduce(judgement: Judgement) -> str:
    """Return the command that judges the same two sides again."""
    sides = [("--candidate", judgement.candidate)]
    if judgement.baseline is not None:
        sides.insert(0, ("--baseline", judgement.baseline))
    words = []
    for option, arm in sides:
        one_session = arm.stored and len(arm.sessions) == 1
        words.append(f"{option} {arm.newest.session_id if one_session else _quoted(arm.ref)}")
    return f"enginewatch gate {' '.join(words)}"


def _quoted(ref: str) -> str:
    import shlex

    # A reference is the user's own text: it must neither end the code block nor the command.
    return shlex.quote(" ".join(ref.replace("`", "").split()))
