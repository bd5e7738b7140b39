"""Why runs of a session failed, do not count or count with care, and what to do about it, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from enginewatch_db.model import RunRecord
from enginewatch_db.validity import REASONS, ValidityEffect


def reason_lines(records: Sequence[RunRecord], *, without: frozenset[str] = frozenset()) -> list[str]:
    """Return one line a reason against runs: how many runs, what it does, what it means, what to do.

    What rejects runs comes first, then what concerns most of them.

    Args:
        records: All runs of the session.
        without: Codes to leave out, besides ``run_failed``: a failure says itself what happened.
    """
    details: dict[str, list[str]] = {}
    for record in records:
        for code, detail in {reason.code: reason.detail for reason in record.reasons}.items():
            if code != "run_failed" and code not in without:
                details.setdefault(code, []).append(detail)
    ordered = sorted(details, key=lambda code: (REASONS[code].effect is not ValidityEffect.REJECT, -len(details[code])))
    return [_reason_line(code, details[code], len(records)) for code in ordered]


def _reason_line(code: str, details: Sequence[str], runs: int) -> str:
    reason = REASONS[code]
    effect = "does not count" if reason.effect is ValidityEffect.REJECT else "counts with care"
    last = f" ({'' if len(set(details)) == 1 else 'last: '}{details[-1]})" if details[-1] else ""
    where = f"{len(details)} of {runs} run{'' if runs == 1 else 's'}"
    return f"{code}, {where}, {effect}: {reason.description.rstrip('.')}{last} → {reason.remedy}"


def counting_line(records: Sequence[RunRecord]) -> str | None:
    """Return how many runs count and which cases have none that does; ``None`` where all runs count."""
    valid = sum(record.valid for record in records)
    if valid == len(records):
        return None
    cases = dict.fromkeys(record.case_key for record in sorted(records, key=lambda record: record.case_key))
    counting = {record.case_key for record in records if record.valid}
    without = [case for case in cases if case not in counting]
    told = f"{valid} of {len(records)} run{'' if len(records) == 1 else 's'} count{'s' if valid == 1 else ''}"
    return f"{told}; no run counts of {', '.join(without)}" if without else told
