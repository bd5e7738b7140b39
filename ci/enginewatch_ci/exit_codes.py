"""From a judgement to an exit code: the only place."""

from __future__ import annotations

from enginewatch_ci.judgement import Judgement
from enginewatch_ci.policy import Policy
from enginewatch_db.errors import ExitCode
from enginewatch_db.model import Verdict


def exit_code(judgement: Judgement, policy: Policy | None = None, *, need_baseline: bool = True) -> ExitCode:
    """Return the exit code of a judgement.

    Worst first: 5 a case failed that did not fail before; 1 a regression, or a limit that the policy lets fail the
    gate is breached; 3 there is no baseline, nothing was conclusive, or (by policy) something was inconclusive or
    uncovered; 0 else.

    Args:
        judgement: What was concluded.
        policy: By which rules; the judgement's own when left out.
        need_baseline: ``False`` where having nothing to compare with is no news: a first session became the baseline.
    """
    rules = (policy or judgement.policy).gate
    verdicts = judgement.counts
    if Verdict.FAILED in verdicts:
        return ExitCode.FAILED
    if Verdict.REGRESSED in verdicts or judgement.failing_breaches:
        return ExitCode.REGRESSION
    if judgement.baseline is None or judgement.is_baseline:
        return ExitCode.INCONCLUSIVE if need_baseline and rules.no_baseline == "fail" else ExitCode.PASS
    unclear = rules.inconclusive == "fail" and Verdict.INCONCLUSIVE in verdicts
    uncovered = rules.coverage == "require" and bool(judgement.uncovered)
    if judgement.conclusive == 0 or unclear or uncovered:
        return ExitCode.INCONCLUSIVE
    return ExitCode.PASS
