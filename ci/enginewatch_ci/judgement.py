"""A judgement: everything that was concluded about one candidate, for every reader of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from enginewatch_ci.comparable import FacetDifference
from enginewatch_ci.facts import Arm
from enginewatch_ci.host import Cohort, HostShift
from enginewatch_ci.policy import Policy
from enginewatch_db.model import SEVERITY, Comparison, Finding, FindingKind, Severity, Verdict

CONCLUSIVE = frozenset({Verdict.REGRESSED, Verdict.IMPROVED, Verdict.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was concluded.

    Attributes:
        candidate: What was judged.
        baseline: What it was compared to; ``None`` where there is none yet.
        policy: By which rules.
        verdict: The verdict of the whole; ``None`` when nothing was compared.
        sentence: The same in one sentence.
        comparisons: Worst first, see ``SEVERITY``.
        findings: Thresholds, regressions, host and cohort.
        environment: Facets that differ.
        host: How the host itself moved; ``None`` where unknown.
        cohort: Whether most cases moved together.
        uncovered: Cases of the baseline that could not be judged.
        is_baseline: Whether the candidate is the baseline itself.
        notes: What a reader must know about how the two sides were chosen.
    """

    candidate: Arm
    baseline: Arm | None
    policy: Policy
    verdict: Verdict | None
    sentence: str
    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    environment: tuple[FacetDifference, ...] = ()
    host: HostShift | None = None
    cohort: Cohort | None = None
    uncovered: tuple[str, ...] = ()
    is_baseline: bool = False
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[Verdict, int]:
        """Verdict → how many comparisons have it, worst first; verdicts that nobody has are left out."""
        found = Counter(comparison.verdict for comparison in self.comparisons)
        return {verdict: found[verdict] for verdict in SEVERITY if found[verdict]}

    @property
    def conclusive(self) -> int:
        """How many comparisons came to a conclusion."""
        return sum(comparison.verdict in CONCLUSIVE for comparison in self.comparisons)

    @property
    def breaches(self) -> tuple[Finding, ...]:
        """Limits that are breached."""
        return tuple(
            finding
            for finding in self.findings
            if finding.kind is FindingKind.THRESHOLD and finding.evidence.get("state") == "breached"
        )

    @property
    def failing_breaches(self) -> tuple[Finding, ...]:
        """Breached limits that fail the gate by policy."""
        return tuple(finding for finding in self.breaches if finding.severity is Severity.CRITICAL)


def overall(comparisons: tuple[Comparison, ...]) -> Verdict | None:
    """Return the verdict of the whole, for the headline; ``exit_codes`` decides what fails.

    A failure or a regression decides. A change that was seen and taken back (host, chance) makes the whole
    inconclusive, as does a majority without conclusion; else one inconclusive p99 beside eleven unchanged medians
    leaves it unchanged, and the sentence counts it.
    """
    counts = Counter(comparison.verdict for comparison in comparisons)
    for decisive in (Verdict.FAILED, Verdict.REGRESSED):
        if counts[decisive]:
            return decisive
    conclusive = sum(counts[verdict] for verdict in CONCLUSIVE)
    taken_back = any(item.verdict is Verdict.INCONCLUSIVE and item.cause for item in comparisons)
    if taken_back or counts[Verdict.INCONCLUSIVE] > conclusive:
        return Verdict.INCONCLUSIVE
    order = (Verdict.IMPROVED, Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE)
    return next((verdict for verdict in order if counts[verdict]), None)
