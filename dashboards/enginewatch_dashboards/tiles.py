"""What the Overview says: the tiles, the headline, the counts. Pure; verdicts are read from the store, never made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from enginewatch_dashboards import format as fmt
from enginewatch_dashboards.reasons import Cause, rejecting, rejects
from enginewatch_dashboards.theme import NO_DATA, NOT_JUDGED, VERDICTS, Look
from enginewatch_db.model import SEVERITY, Verdict

Row = dict[str, Any]

MAX_TILES = 12
MAX_CAUSES = 2
"""Causes that the headline names; all of them are listed below it."""
PRIMARY_METRICS = ("latency_p50_ms", "output_tokens_s")
"""What a tile shows when nothing was judged: the first of these that the series has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One model on one device.

    Attributes:
        model: Name of the model.
        device: Product name.
        look: Its worst verdict, or why there is none.
        case_key: The case that the verdict is about.
        series_id: Its series; ``None`` when no run of it has a result.
        session_id: The session that is shown.
        metric: The metric that the verdict is about; ``None`` when nothing was judged.
        verdict: The stored row behind it; ``None`` when nothing was judged.
        sentence: Why, or what to do.
        n_cases: Cases of this model on this device in the session.
        n_valid: Valid runs of the case.
    """

    model: str
    device: str
    look: Look
    case_key: str
    series_id: str | None
    session_id: str
    metric: str | None
    verdict: Row | None
    sentence: str
    n_cases: int
    n_valid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one sentence of the Overview."""

    look: Look
    sentence: str
    detail: str


def current_sessions(sessions: Sequence[Row], *, plan: str | None, session: str | None) -> list[Row]:
    """Return the session that was asked for, else the newest one of each plan (or of the plan asked for)."""
    if session is not None:
        return [row for row in sessions if row["session_id"].startswith(session) or row["label"] == session][:1]
    newest: dict[str, Row] = {}
    for row in sessions:
        if plan is None or row["plan_name"] == plan:
            newest.setdefault(row["plan_name"], row)
    return list(newest.values())


def counts(verdicts: Iterable[Row]) -> dict[Verdict, int]:
    """Return how many comparisons have each verdict, worst first; all six, also those at zero."""
    found = Counter(row["verdict"] for row in verdicts)
    return {verdict: found[verdict.value] for verdict in SEVERITY}


def worst(verdicts: Iterable[Row]) -> Row | None:
    """Return the row that needs the most attention: by verdict, then by the size of the effect."""
    return min(verdicts, key=_attention, default=None)


def _attention(row: Row) -> tuple[int, float, str, str]:
    rel = row["effect_rel"]
    return SEVERITY.index(Verdict(row["verdict"])), -abs(rel or 0.0), row["case_key"], row["metric"]


def make_tiles(cases: Sequence[Row], verdicts: Sequence[Row]) -> list[Tile]:
    """Return one tile per model and device, worst first; cases whose tool is absent make no tile."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for case in cases:
        if case["n_runs"] > case["n_not_available"]:
            groups.setdefault((case["model"], case["device"]), []).append(case)
    by_case: dict[tuple[str, str], list[Row]] = {}
    for row in verdicts:
        by_case.setdefault((row["session_id"], row["case_key"]), []).append(row)
    tiles = [_tile(model, device, members, by_case) for (model, device), members in groups.items()]
    return sorted(tiles, key=_tile_order)


def _tile_order(tile: Tile) -> tuple[int, float, str, str]:
    for place, verdict in enumerate(SEVERITY):
        if tile.look is VERDICTS[verdict]:
            effect = abs(tile.verdict["effect_rel"] or 0.0) if tile.verdict else 0.0
            # What is unknown ranks with inconclusive: below a problem, above all that is fine.
            return place * 2, -effect, tile.model, tile.device
    return SEVERITY.index(Verdict.INCONCLUSIVE) * 2 + 1, 0.0, tile.model, tile.device


def _tile(model: str, device: str, members: list[Row], by_case: dict[tuple[str, str], list[Row]]) -> Tile:
    judged = [row for case in members for row in by_case.get((case["session_id"], case["case_key"]), [])]
    broken = [case for case in members if case["n_failed"] and not case["n_valid"]]
    row = worst(judged)
    if broken and (row is None or row["verdict"] != Verdict.FAILED):
        case, row, look = broken[0], None, VERDICTS[Verdict.FAILED]
        sentence = case["failure_message"] or "every run failed"
    elif row is not None:
        case = next(item for item in members if item["case_key"] == row["case_key"])
        look, sentence = VERDICTS[Verdict(row["verdict"])], row["why"]
    else:
        case = max(members, key=lambda item: (item["sessions_with_data"], item["n_valid"]))
        look, sentence = unknown(case)
    return Tile(
        model=model,
        device=device,
        look=look,
        case_key=case["case_key"],
        series_id=case["series_id"] if case["n_valid"] else None,
        session_id=case["session_id"],
        metric=row["metric"] if row else None,
        verdict=row,
        sentence=sentence,
        n_cases=len(members),
        n_valid=case["n_valid"],
    )


def unknown(case: Row) -> tuple[Look, str]:
    """Return how a case without a verdict is shown, and what to do about it."""
    if not case["n_valid"]:
        codes = ", ".join(rejecting(case["reason_codes"])) or "no reason given"
        return NO_DATA, f"no run counts ({codes}): see the run's checklist"
    sessions = case["sessions_with_data"]
    if sessions < 2:
        return NO_DATA, f"not enough data yet: {fmt.count(sessions, 'session')}; run again to compare"
    return NOT_JUDGED, f"{fmt.count(sessions, 'session')} and no verdict: run `enginewatch judge`"


def headline(cases: Sequence[Row], verdicts: Sequence[Row], causes: Sequence[Cause] = ()) -> Headline:
    """Return the sentence that answers: is anything worse, and may one trust it?

    Args:
        cases: Rows of the query ``cases``.
        verdicts: Rows of the query ``verdicts``.
        causes: What spoils many of their runs: while it lasts, more repeats settle nothing.
    """
    number = counts(verdicts)
    judged = {(row["session_id"], row["case_key"]) for row in verdicts if row["verdict"] == Verdict.FAILED}
    silent = sum(
        1
        for case in cases
        if case["n_failed"] and not case["n_valid"] and (case["session_id"], case["case_key"]) not in judged
    )
    failed, regressed = number[Verdict.FAILED] + silent, number[Verdict.REGRESSED]
    if failed or regressed:
        parts = [f"{n} {word}" for n, word in ((failed, "failed"), (regressed, "regressed")) if n]
        look = VERDICTS[Verdict.FAILED if failed else Verdict.REGRESSED]
        return Headline(look=look, sentence=" and ".join(parts).capitalize(), detail=_detail(cases, verdicts))
    if not verdicts:
        return _nothing_judged(cases)
    unclear = number[Verdict.INCONCLUSIVE] + number[Verdict.NOT_COMPARABLE]
    open_cases = _without_verdict(cases, verdicts)
    waiting = f" {_cases_have(open_cases)} no verdict yet." if open_cases else ""
    if unclear:
        noun = "comparison is" if unclear == 1 else "comparisons are"
        more = _what_settles(number, causes)
        return Headline(
            look=VERDICTS[Verdict.INCONCLUSIVE],
            sentence=f"Nothing is known to be worse, but {unclear} {noun} open",
            detail=f"{_rest(number)}.{more}{waiting}",
        )
    if open_cases:
        return Headline(
            look=NO_DATA,
            sentence=f"Nothing that was compared is worse; {_cases_have(open_cases)} no verdict yet",
            detail=f"{_rest(number)}. A case without a verdict has no baseline yet, or was not judged.",
        )
    return Headline(
        look=VERDICTS[Verdict.UNCHANGED], sentence="Nothing is worse than the baseline", detail=_rest(number)
    )


def _what_settles(number: dict[Verdict, int], causes: Sequence[Cause]) -> str:
    # What only disturbs leaves an interval wide; it makes no case incomparable.
    told = [cause for cause in causes if number[Verdict.INCONCLUSIVE] or rejects(cause.code)]
    if told:
        return " " + " ".join(f"{cause.told} {cause.remedy}" for cause in told[:MAX_CAUSES])
    return " More repeats would settle what is inconclusive." if number[Verdict.INCONCLUSIVE] else ""


def _without_verdict(cases: Sequence[Row], verdicts: Sequence[Row]) -> int:
    judged = {(row["session_id"], row["case_key"]) for row in verdicts}
    return sum(1 for case in cases if case["n_ok"] and (case["session_id"], case["case_key"]) not in judged)


def _cases_have(n: int) -> str:
    return f"{n} {'case has' if n == 1 else 'cases have'}"


def _rest(number: dict[Verdict, int]) -> str:
    parts = [f"{n} {VERDICTS[verdict].word}" for verdict, n in number.items() if n]
    return ", ".join(parts).capitalize()


def _detail(cases: Sequence[Row], verdicts: Sequence[Row]) -> str:
    row = worst(row for row in verdicts if row["verdict"] == Verdict.REGRESSED)
    if row is not None:
        change = fmt.effect(row["effect_rel"], row["effect_ci_low"], row["effect_ci_high"])
        against = f" against {row['baseline_label']}" if row["baseline_label"] else ""
        return f"Largest regression: {row['case_key']}, {fmt.metric_label(row['metric'])} {change}{against}."
    case = next((case for case in cases if case["n_failed"]), None)
    return f"{case['case_key']}: {case['failure_message']}" if case else ""


def _nothing_judged(cases: Sequence[Row]) -> Headline:
    most = max((case["sessions_with_data"] for case in cases), default=0)
    if most < 2:
        return Headline(
            look=NO_DATA,
            sentence=f"Not enough data yet: {fmt.count(most, 'session')}; run again to compare",
            detail="A verdict needs a baseline. `enginewatch run PLAN` once more makes the first comparison.",
        )
    return Headline(
        look=NOT_JUDGED,
        sentence="Not judged yet",
        detail="There are sessions to compare and no stored verdict: run `enginewatch judge`.",
    )
