"""Which runs may be compared with which: pairs of cases, and for the rest the reason why not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from enginewatch_ci.facts import Arm, RunFacts
from enginewatch_ci.phrasing import count, listed
from enginewatch_db.model import Json, RunStatus, Verdict
from enginewatch_db.validity import REASONS, ValidityEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePair:
    """The valid runs of one series in both arms.

    Attributes:
        case_key: The case.
        series_id: What both share.
        baseline: Valid runs to compare to, at least one.
        candidate: Valid runs to judge, at least one.
        notes: Warnings on these runs that a reader needs.
        rejected_baseline: The case's runs in the baseline that do not count.
        rejected_candidate: The same of the candidate.
    """

    case_key: str
    series_id: str
    baseline: tuple[RunFacts, ...]
    candidate: tuple[RunFacts, ...]
    notes: tuple[str, ...] = ()
    rejected_baseline: tuple[RunFacts, ...] = ()
    rejected_candidate: tuple[RunFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaired:
    """A case that cannot be compared.

    Attributes:
        case_key: The case.
        series_id: Its series where one is known.
        verdict: ``failed`` (new failure of the candidate) or ``not_comparable``.
        why: One sentence.
        in_baseline: Whether the baseline has a valid run of it: then something is uncovered.
        cause: Stable code of a failure; ``None`` elsewhere.
    """

    case_key: str
    series_id: str | None
    verdict: Verdict
    why: str
    in_baseline: bool
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetDifference:
    """An environment facet that is not the same in both arms.

    Attributes:
        facet: Its name.
        baseline: Values in the baseline, joined; ``-`` where it has none.
        candidate: Values in the candidate.
    """

    facet: str
    baseline: str
    candidate: str


def pair_cases(baseline: Arm, candidate: Arm) -> tuple[list[CasePair], list[Unpaired]]:
    """Return what can be compared and what cannot, in the order of case keys.

    A case that the candidate's host has no GPU for is neither: another host measures it.
    """
    pairs: list[CasePair] = []
    unpaired: list[Unpaired] = []
    measured = {run.case_key for run in (*baseline.runs, *candidate.runs)}
    for case_key in sorted(measured - candidate.left_for_another_host):
        before, after = baseline.of_case(case_key), candidate.of_case(case_key)
        refused = _refuse(case_key, before, after)
        if refused is not None:
            unpaired.append(refused)
            continue
        common = {run.series_id for run in before if run.valid} & {run.series_id for run in after if run.valid}
        pairs += [_case_pair(case_key, series, before, after) for series in sorted(common)]
    return pairs, unpaired


def not_measured_here(baseline: Arm, candidate: Arm) -> tuple[str, ...]:
    """Return the note on cases of the baseline that the candidate's host left for another; empty where none."""
    left = sorted(candidate.left_for_another_host & {run.case_key for run in baseline.runs})
    return (f"Not measured on this host, which has no GPU for it: {listed(left)}.",) if left else ()


def _refuse(case_key: str, before: Sequence[RunFacts], after: Sequence[RunFacts]) -> Unpaired | None:
    """Return why a case cannot be compared, or ``None`` when it can. Failures come before everything else."""
    old, new = [run for run in before if run.valid], [run for run in after if run.valid]
    verdict, cause = Verdict.NOT_COMPARABLE, None
    if not after:
        why = "case missing in the candidate: the baseline has it, and it was not measured now"
    elif not new:
        verdict, cause, why = _without_result(before, after)
    elif not before:
        why = "new case: the baseline does not have it"
    elif not old:
        why = f"the baseline has no valid run of this case: {_invalid(before)}"
    elif not {run.series_id for run in old} & {run.series_id for run in new}:
        why = f"another thing was measured: {listed(identity_changes(old[-1].identity, new[-1].identity))}"
    else:
        return None
    series = next((run.series_id for run in (*new, *old, *after)), None)
    return Unpaired(case_key=case_key, series_id=series, verdict=verdict, why=why, in_baseline=bool(old), cause=cause)


def _without_result(before: Sequence[RunFacts], after: Sequence[RunFacts]) -> tuple[Verdict, str | None, str]:
    """Classify a case of which the candidate has runs, but no valid one."""
    broken = [run for run in after if run.broken]
    if broken:
        known = bool(before) and all(run.broken for run in before)
        what = f"{len(broken)} of {count(len(after), 'run')} failed: {_failure(broken)}"
        if known:
            return Verdict.NOT_COMPARABLE, _code(broken), f"fails as it did in the baseline; {what}"
        return Verdict.FAILED, _code(broken), what
    absent = [run for run in after if run.status is RunStatus.NOT_AVAILABLE]
    if absent:
        return Verdict.NOT_COMPARABLE, None, f"the backend is not available here: {_failure(absent)}"
    return Verdict.NOT_COMPARABLE, "validity", f"no run is valid: {_invalid(after)}"


def _code(broken: Sequence[RunFacts]) -> str | None:
    return next((run.failure.code for run in broken if run.failure), None)


def _failure(runs: Sequence[RunFacts]) -> str:
    for run in runs:
        if run.failure is not None:
            remedy = f" → {run.failure.remedy}" if run.failure.remedy else ""
            return f"{run.failure.code}: {run.failure.message}{remedy}"
    return _invalid(runs)


def _invalid(runs: Sequence[RunFacts]) -> str:
    """Name the reasons that reject these runs, each with its remedy."""
    failures = [run for run in runs if run.failure is not None]
    if failures:
        return _failure(failures)
    codes = Counter(reason.code for run in runs for reason in run.reasons if reason.effect is ValidityEffect.REJECT)
    if not codes:
        return "they hold no result"
    return listed(f"{code} in {number} of {len(runs)} ({REASONS[code].remedy})" for code, number in codes.items())


def _case_pair(case_key: str, series: str, before: Sequence[RunFacts], after: Sequence[RunFacts]) -> CasePair:
    old = tuple(run for run in before if run.valid and run.series_id == series)
    new = tuple(run for run in after if run.valid and run.series_id == series)
    notes = [*_arm_notes("baseline", before, old), *_arm_notes("candidate", after, new)]
    prints = [{run.fingerprint for run in arm if run.fingerprint} for arm in (old, new)]
    if prints[0] and prints[1] and prints[0] != prints[1]:
        notes.append(
            f"the engine's structure changed: {listed(sorted(print_[:12] for print_ in prints[0]))} → "
            f"{listed(sorted(print_[:12] for print_ in prints[1]))}"
        )
    return CasePair(
        case_key=case_key,
        series_id=series,
        baseline=old,
        candidate=new,
        notes=tuple(notes),
        rejected_baseline=tuple(run for run in before if not run.valid),
        rejected_candidate=tuple(run for run in after if not run.valid),
    )


def _arm_notes(arm: str, every: Sequence[RunFacts], used: Sequence[RunFacts]) -> Iterable[str]:
    broken = [run for run in every if run.broken]
    if broken:
        yield (
            f"{arm}: {len(broken)} of {count(len(every), 'run')} failed and {_were(len(broken))} left out: "
            + _failure(broken)
        )
    dropped = [run for run in every if not run.valid and not run.broken and run.status is RunStatus.OK]
    if dropped:
        yield f"{arm}: {len(dropped)} of {count(len(every), 'run')} {_were(len(dropped))} invalid: {_invalid(dropped)}"
    warned = Counter(reason.code for run in used for reason in run.reasons)
    for code, number in sorted(warned.items()):
        yield f"{arm}: {code} in {number} of {count(len(used), 'run')}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def identity_changes(before: Json, after: Json) -> list[str]:
    """Name the identity fields that differ, as ``options.threads: 2 → 4``."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{key}: {_shown(old.get(key))} → {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _flat(value: Json, prefix: str = "") -> Iterable[tuple[str, object]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        elif item is not None:
            # Hashes are long, and their first characters tell them apart.
            yield f"{prefix}{key}", item[:12] if key.endswith("sha256") else item


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def facet_differences(baseline: Arm, candidate: Arm) -> tuple[FacetDifference, ...]:
    """Return the environment facets that differ: they do not forbid the comparison, and may explain it."""
    values = [_facets(arm) for arm in (baseline, candidate)]
    return tuple(
        FacetDifference(
            facet=facet,
            baseline=listed(sorted(values[0].get(facet, {"-"}))),
            candidate=listed(sorted(values[1].get(facet, {"-"}))),
        )
        for facet in sorted(values[0].keys() | values[1].keys())
        if values[0].get(facet) != values[1].get(facet)
    )


def _facets(arm: Arm) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for run in arm.runs:
        for facet, value in run.facets.items():
            found.setdefault(facet, set()).add(str(value))
    for session in arm.sessions:
        if session.git_commit:
            dirty = " with uncommitted changes" if session.git_dirty else ""
            found.setdefault("git_commit", set()).add(session.git_commit[:10] + dirty)
    return found
