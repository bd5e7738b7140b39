"""Judge one candidate against one baseline: read, decide, store. Everything that is concluded comes through here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from enginewatch_ci import summary
from enginewatch_ci.accuracy import judge_accuracy, without_speed
from enginewatch_ci.choose import BASELINE, LATEST, load_pair
from enginewatch_ci.comparable import facet_differences, not_measured_here
from enginewatch_ci.decide import decide, worst_first
from enginewatch_ci.facts import Arm, History
from enginewatch_ci.findings import findings_of
from enginewatch_ci.judgement import Judgement, overall
from enginewatch_ci.policy import Policy, policy_of_text
from enginewatch_ci.thresholds import judge_limits


def judge(
    workspace: Path,
    *,
    candidate: str = LATEST,
    baseline: str = BASELINE,
    policy: Policy | None = None,
    store: bool = True,
) -> Judgement:
    """Judge ``candidate`` against ``baseline``.

    Args:
        workspace: The folder of the store.
        candidate: What to judge, a REF (see ``refs``).
        baseline: What to compare to, a REF.
        policy: Rules; left out: those that the candidate's plan named when it was measured, else the built-in ones.
        store: Whether to store verdicts and findings under the candidate's newest session; never done for bundles.

    Raises:
        UsageError: A REF that means nothing, or more than one thing.
        StorageError: There is no store, or it cannot be read or written.
    """
    rules = policy or Policy()
    loaded = load_pair(workspace, candidate, baseline, metrics=rules.gated_metrics())
    if policy is None and (named := policy_of_plan(loaded.candidate)) is not None:
        if named.gated_metrics() != rules.gated_metrics():
            loaded = load_pair(workspace, candidate, baseline, metrics=named.gated_metrics())
        rules = named
    judgement = judge_arms(loaded.baseline, loaded.candidate, rules, loaded.history)
    judgement = replace(judgement, notes=(*loaded.notes, *judgement.notes))
    if store:
        store_judgement(workspace, judgement)
    return judgement


def policy_of_plan(candidate: Arm) -> Policy | None:
    """Return the policy that the plan of the newest session named; ``None`` where it named none.

    Raises:
        UsageError: This enginewatch cannot read that policy any more.
    """
    session = candidate.newest
    if session.policy_text is None:
        return None
    return policy_of_text(session.policy_text, f"the policy of session {session.short}'s plan")


def store_judgement(workspace: Path, judgement: Judgement) -> None:
    """Store verdicts and findings under the candidate's newest session; bundles that are in no store are left out.

    Raises:
        StorageError: The store cannot be written.
    """
    baseline = judgement.baseline
    if not judgement.candidate.stored or (baseline is not None and not baseline.stored):
        return
    # Imported here: judging two folders of bundles needs no DuckDB at all.
    from enginewatch_ci.speedup_store import keep_speedups
    from enginewatch_db import judgements

    keep_speedups(workspace, judgement.candidate.session_ids)
    judgements.store(
        workspace,
        judgement.candidate.newest.session_id,
        baseline_session=baseline.newest.session_id if baseline else None,
        comparisons=judgement.comparisons,
        findings=judgement.findings,
    )


def judge_arms(baseline: Arm | None, candidate: Arm, policy: Policy, history: History | None = None) -> Judgement:
    """Judge two arms that are loaded already. Pure.

    Args:
        baseline: What to compare to; ``None`` where there is none yet.
        candidate: What to judge.
        policy: Rules.
        history: Values of earlier runs per series and metric.
    """
    same = baseline is not None and set(baseline.session_ids) == set(candidate.session_ids)
    if baseline is None or same:
        return _without_comparison(baseline, candidate, policy)
    decision = decide(baseline, candidate, policy, history)
    limits = judge_limits(candidate, decision.comparisons, policy)
    accuracy = judge_accuracy(baseline, candidate, policy)
    speed = without_speed(decision.comparisons, accuracy.wrong if policy.accuracy.wrong == "fail" else {})
    decision = replace(decision, comparisons=worst_first((*speed, *accuracy.comparisons)))
    verdict = overall(decision.comparisons)
    return Judgement(
        candidate=candidate,
        baseline=baseline,
        policy=policy,
        verdict=verdict,
        sentence=summary.sentence(verdict, decision.comparisons, baseline),
        comparisons=decision.comparisons,
        findings=(*findings_of(decision, candidate), *limits, *accuracy.findings),
        environment=facet_differences(baseline, candidate),
        host=decision.host,
        cohort=decision.cohort,
        uncovered=decision.uncovered,
        notes=not_measured_here(baseline, candidate),
    )


def _without_comparison(baseline: Arm | None, candidate: Arm, policy: Policy) -> Judgement:
    accuracy = judge_accuracy(None, candidate, policy)
    wrong = accuracy.comparisons
    return Judgement(
        candidate=candidate,
        baseline=baseline,
        policy=policy,
        verdict=overall(wrong),
        sentence=summary.no_comparison(baseline, candidate) if not wrong else summary.wrong(wrong),
        comparisons=wrong,
        findings=(*judge_limits(candidate, (), policy), *accuracy.findings),
        is_baseline=baseline is not None,
    )
