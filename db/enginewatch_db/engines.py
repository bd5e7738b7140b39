"""The registry of engines in the store, and the pointer to each case's last good ones. Reads and appends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginewatch_db.connect import Reader, statement
from enginewatch_db.model import Comparison, Json, Verdict

if TYPE_CHECKING:
    import duckdb

ACCEPTED = "accepted"
JUDGED = "judged"
WITHDRAWN = "withdrawn"
WRONG = "its outputs are wrong"
WORSE = "judged again, and it is no longer known to be as good"
ACCURACY = "accuracy"
"""Cause of a verdict on outputs (``enginewatch_ci.accuracy``)."""

_BAD = frozenset({Verdict.REGRESSED, Verdict.FAILED, Verdict.NOT_COMPARABLE})
_GOOD = frozenset({Verdict.IMPROVED, Verdict.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodEngine:
    """One last good engine of a case: there is one for each series (another GPU is another one) and each build.

    Attributes:
        plan_name: The plan.
        case_key: The case.
        series_id: What its runs are compared within.
        engine_sha256: The engine.
        session_id: The session that showed it.
        why: ``accepted: ...`` or ``judged ...``.
        marked_us: When, microseconds since 1970 (UTC).
    """

    plan_name: str
    case_key: str
    series_id: str
    engine_sha256: str
    session_id: str
    why: str
    marked_us: int


def good_engines(reader: Reader, *, plan: str | None = None, case_key: str | None = None) -> tuple[GoodEngine, ...]:
    """Return the last good engines, of one plan or case where that is given; of a case, the newest come first."""
    found = (GoodEngine(**row) for row in reader.rows("engines_good"))
    return tuple(item for item in found if plan in (None, item.plan_name) and case_key in (None, item.case_key))


def protected(reader: Reader) -> dict[str, str]:
    """Return engine → why it must stay: it is the last good one of a case, or a baseline was measured with it."""
    kept = {row["engine_sha256"]: f"baseline of {row['plan_name']}" for row in reader.rows("engines_of_baselines")}
    return kept | {item.engine_sha256: f"last good of {item.case_key}" for item in good_engines(reader)}


def good_cases(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return case → its verdict in words, for the cases that were judged no worse than their baseline. Pure.

    No metric may be regressed, failed or not comparable, and more must have come to a conclusion than not: one
    inconclusive p99 beside unchanged medians does not hold an engine back, one that was taken back does.
    """
    found: dict[str, list[Comparison]] = {}
    for item in comparisons:
        found.setdefault(item.case_key, []).append(item)
    return {case: str(verdict) for case, items in found.items() if (verdict := _no_worse(items)) is not None}


def _no_worse(items: Sequence[Comparison]) -> Verdict | None:
    verdicts = [item.verdict for item in items]
    taken_back = any(item.verdict is Verdict.INCONCLUSIVE and item.cause for item in items)
    good = sum(verdict in _GOOD for verdict in verdicts)
    if taken_back or not good or _BAD.intersection(verdicts) or verdicts.count(Verdict.INCONCLUSIVE) > good:
        return None
    return Verdict.IMPROVED if Verdict.IMPROVED in verdicts else Verdict.UNCHANGED


def mark_accepted(connection: duckdb.DuckDBPyConnection, session_id: str, reason: str) -> tuple[str, ...]:
    """Make the engines of an accepted session the last good ones of its cases, where they have a valid run.

    Returns:
        The cases whose engines are not marked, because their outputs were judged wrong.
    """
    wrong = {case for (case,) in connection.execute(statement("wrong_cases"), {"session": session_id}).fetchall()}
    rows = connection.execute("SELECT DISTINCT case_key FROM runs WHERE session_id = ?", [session_id]).fetchall()
    for (case_key,) in rows:
        if case_key in wrong:
            _withdraw(connection, session_id, case_key, WRONG, accepted=True)
        else:
            _mark(connection, session_id, case_key, f"{ACCEPTED}: {reason}")
    return tuple(sorted(wrong))


def mark_judged(
    connection: duckdb.DuckDBPyConnection, session_id: str, baseline: str | None, comparisons: Sequence[Comparison]
) -> None:
    """Note which engines of a judged session are good, and withdraw what an earlier judgement of it had said.

    Wrong outputs take back every mark of the session, a person's too: nobody accepts those for their speed. Else a
    judgement without a baseline says nothing: a first session is good when it is accepted.
    """
    for case_key in wrong_cases(comparisons):
        _withdraw(connection, session_id, case_key, WRONG, accepted=True)
    if baseline is None or baseline == session_id:
        return
    good = good_cases(comparisons)
    for case_key in sorted({item.case_key for item in comparisons}):
        if case_key in good:
            _mark(connection, session_id, case_key, f"{JUDGED} {good[case_key]}")
        else:
            _withdraw(connection, session_id, case_key, WORSE, accepted=False)


def wrong_cases(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Return the cases whose outputs were judged wrong. Pure."""
    wrong = {item.case_key for item in comparisons if item.verdict is Verdict.FAILED and item.cause == ACCURACY}
    return tuple(sorted(wrong))


def _mark(connection: duckdb.DuckDBPyConnection, session_id: str, case_key: str, why: str) -> None:
    kind = ACCEPTED if why.startswith(ACCEPTED) else JUDGED
    given = {"session": session_id, "case": case_key, "why": why, "kind": kind}
    connection.execute(statement("good_mark"), given)


def _withdraw(
    connection: duckdb.DuckDBPyConnection, session_id: str, case_key: str, why: str, *, accepted: bool
) -> None:
    given = {"session": session_id, "case": case_key, "why": f"{WITHDRAWN}: {why}", "accepted": accepted}
    connection.execute(statement("good_withdraw"), given)


def engine_rows(reader: Reader) -> list[Json]:
    """Return all engines with their use, newest first; see ``queries/engines.sql``."""
    return reader.rows("engines")
