"""The one sentence of a judgement. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from enginewatch_ci.accuracy import CAUSE
from enginewatch_ci.facts import Arm
from enginewatch_ci.phrasing import count, effect, listed, name
from enginewatch_ci.phrasing import verdict as word
from enginewatch_db.model import SEVERITY, Comparison, Verdict

WORDS = {
    Verdict.FAILED: "Failed",
    Verdict.REGRESSED: "Regressed",
    Verdict.NOT_COMPARABLE: "Not comparable",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.IMPROVED: "Improved",
    Verdict.UNCHANGED: "Unchanged",
}

ENOUGH_RUNS = 3
"""Runs that count a side from which an effect has an interval worth its name (``stats.effect``)."""


def tally(comparisons: Sequence[Comparison]) -> str:
    """Return ``1 regressed, 11 unchanged``, worst first."""
    found = Counter(comparison.verdict for comparison in comparisons)
    return ", ".join(f"{found[verdict]} {word(verdict)}" for verdict in SEVERITY if found[verdict])


def _largest(comparisons: Sequence[Comparison], verdict: Verdict) -> Comparison:
    mine = [item for item in comparisons if item.verdict is verdict]
    return max(mine, key=lambda item: abs(item.effect.rel) if item.effect else 0.0)


def sentence(verdict: Verdict | None, comparisons: Sequence[Comparison], baseline: Arm) -> str:
    """Return the verdict in one sentence: what, how much, against what."""
    against = f"against {baseline.title}"
    if verdict is None:
        return f"Not comparable: neither side has a run, {against}."
    head = WORDS[verdict]
    if verdict is Verdict.FAILED:
        failed = [item for item in comparisons if item.verdict is Verdict.FAILED]
        more = sum(item.verdict is Verdict.REGRESSED for item in comparisons)
        also = f"; {count(more, 'comparison')} regressed besides" if more else ""
        told = listed(f"{item.case_key} ({item.cause})" if item.cause else item.case_key for item in failed)
        # A wrong engine fails whatever it was before; only other failures are known to be new.
        new = "" if any(item.cause == CAUSE for item in failed) else ", and did not before"
        return f"{head}: {count(len(failed), 'case')} failed{new}: {told}{also}, {against}."
    if verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        worst = _largest(comparisons, verdict)
        told = f"{name(worst)} {effect(worst.effect)}" if worst.effect else name(worst)
        return f"{head}: {told} is the largest ({tally(comparisons)}), {against}."
    if verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE):
        mine = [item for item in comparisons if item.verdict is verdict]
        first = next((item for item in mine if item.cause), mine[0])
        return f"{head} ({tally(comparisons)}), {against}. {first.case_key}: {first.why}."
    every = all(item.verdict is verdict for item in comparisons)
    told = f"all {count(len(comparisons), 'comparison')}" if every else tally(comparisons)
    return f"{head}: {told}, {against}."


def wrong(comparisons: Sequence[Comparison]) -> str:
    """Return the sentence of a first session with wrong outputs."""
    return f"Failed: {listed(f'{item.case_key}: {item.why}' for item in comparisons)}."


def no_comparison(baseline: Arm | None, candidate: Arm) -> str:
    """Return the sentence where there is nothing to compare with yet."""
    plan = candidate.newest.plan_name
    cases = {run.case_key for run in candidate.runs}
    measured = {run.case_key for run in candidate.runs if run.valid}
    if baseline is None:
        codes = Counter(code for run in candidate.runs for code in run.rejected_by)
        of_all = f"of {count(len(candidate.runs), 'run')}"
        tried = listed([f"{count(len(cases), 'case')} tried", *(f"{code} in {codes[code]} {of_all}" for code in codes)])
        return f"No baseline: plan {plan!r} has no finished session with a valid run yet ({tried})."
    without = [f"{case}{_rejected_by(candidate, case)}" for case in sorted(cases - measured)]
    missing = f"; without a valid run: {listed(without)}" if without else ""
    return (
        f"Nothing to compare with: {candidate.title} is the baseline of plan {plan!r} itself, with "
        f"{len(measured)} of {count(len(cases), 'case')} measured{missing}. The next session is compared to it."
    )


def _rejected_by(candidate: Arm, case_key: str) -> str:
    codes = dict.fromkeys(code for run in candidate.of_case(case_key) for code in run.rejected_by)
    return f" ({', '.join(codes)})" if codes else ""


def _too_few(candidate: Arm) -> str | None:
    """Say what keeps cases from having enough runs that count; ``None`` where each has them."""
    codes: Counter[str] = Counter()
    remedies: dict[str, str | None] = {}
    for case_key in {run.case_key for run in candidate.runs}:
        runs = candidate.of_case(case_key)
        if sum(run.valid for run in runs) < ENOUGH_RUNS:
            codes.update(code for run in runs for code in run.rejected_by)
            remedies |= {code: remedy for run in runs for code, remedy in run.rejected_by.items()}
    if not codes:
        return None
    code, rejected = max(codes.items(), key=lambda item: (item[1], item[0]))
    remedy = (remedies[code] or "see the run's failure").rstrip(".")
    return f"Too few runs count ({code} rejected {rejected}): {remedy}"


def next_step(verdict: Verdict | None, candidate: Arm) -> str:
    """Return what to do now."""
    session = candidate.newest.session_id
    if verdict is Verdict.FAILED:
        return "Read the failure's message and its remedy, then run the plan again."
    if verdict is Verdict.REGRESSED:
        return (
            "Open the two sessions in `enginewatch dashboard`; if the change is intended, make it the baseline: "
            f'`enginewatch accept {session} --reason "why"`.'
        )
    if verdict is Verdict.INCONCLUSIVE:
        if few := _too_few(candidate):
            return f"{few}. Then measure both sides again on one quiet host."
        return "Measure both sides again on one quiet host, each case more often (`repeats` in the plan)."
    if verdict is Verdict.NOT_COMPARABLE:
        return (
            "Measure the same cases on the same device, or make this session the baseline: "
            f'`enginewatch accept {session} --reason "why"`.'
        )
    if verdict is None:
        return "Run the plan again to get a verdict."
    return "Nothing to do."
