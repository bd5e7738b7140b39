"""The five limits that users name, judged on the candidate alone: met, breached or not evaluable, with the reason.

A breach is a finding and is shown; it fails the gate only where the policy says so (``limits.fail_on``), but for
tokens per second against the baseline, which is part of the verdict anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from enginewatch_ci.facts import Arm, RunFacts, is_cpu
from enginewatch_ci.measure import sample_of
from enginewatch_ci.phrasing import count, listed, percent, quantity
from enginewatch_ci.policy import LimitName, Policy
from enginewatch_ci.stats import one_sample
from enginewatch_db.model import Comparison, Finding, FindingKind, Json, Severity, Verdict
from enginewatch_db.quantile import P99_MIN_SAMPLES, TAIL_MIN_SAMPLES

UNIT_SOURCES = frozenset({"gpm", "dcgm_prof", "cupti_pm"})
"""Sources that count cycles of the hardware units. ``nvml_util`` counts time with any kernel, and never enters."""


class LimitState(StrEnum):
    """What a limit says."""

    MET = "met"
    BREACHED = "breached"
    NOT_EVALUABLE = "not_evaluable"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    key: str
    runs: tuple[RunFacts, ...]
    session_id: str
    policy: Policy

    @property
    def device(self) -> str:
        return str(self.runs[0].identity.get("device", "unknown device"))

    @property
    def is_server(self) -> bool:
        """Whether requests are sent to it: then its latency is that of the first token."""
        return self.runs[0].is_server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    state: LimitState
    title: str
    metric: str
    evidence: Json
    value: float | None = None
    remedy: str | None = None
    confidence: str | None = None
    severity: Severity = Severity.WARNING


def judge_limits(candidate: Arm, comparisons: Sequence[Comparison], policy: Policy) -> tuple[Finding, ...]:
    """Return one finding per case with a valid run and limit.

    Args:
        candidate: The runs to judge.
        comparisons: The verdicts, for tokens per second against the baseline; empty where there is no baseline.
        policy: The limits.
    """
    valid: dict[str, list[RunFacts]] = {}
    for run in candidate.runs:
        if run.valid:
            valid.setdefault(run.case_key, []).append(run)
    findings: list[Finding] = []
    for key, runs in sorted(valid.items()):
        case = _Case(key=key, runs=tuple(runs), session_id=candidate.newest.session_id, policy=policy)
        findings += [
            _finding(case, "latency_p99_ms", _latency(case)),
            _finding(case, "tokens_vs_baseline", _tokens(case, comparisons)),
            _finding(case, "sm_active_pct", _sm_active(case)),
            _finding(case, "dram_bw_max_pct", _dram(case)),
            _finding(case, "tensor_active_pct", _tensor(case)),
        ]
    return tuple(findings)


def _finding(case: _Case, limit: LimitName, outcome: _Outcome) -> Finding:
    severity = Severity.INFO
    if outcome.state is LimitState.BREACHED:
        severity = Severity.CRITICAL if limit in case.policy.limits.fail_on else outcome.severity
    return Finding(
        kind=FindingKind.THRESHOLD,
        severity=severity,
        title=f"{case.key}: {outcome.title}",
        session_id=case.session_id,
        detector=f"limit.{limit}",
        case_key=case.key,
        metric=outcome.metric,
        value=outcome.value,
        evidence={"state": outcome.state.value, **outcome.evidence},
        remedy=outcome.remedy if outcome.state is not LimitState.MET else None,
        confidence=outcome.confidence,
    )


def _unknown(metric: str, what: str, reason: str, remedy: str | None = None) -> _Outcome:
    return _Outcome(
        state=LimitState.NOT_EVALUABLE,
        title=f"{what} is not evaluable: {reason}",
        metric=metric,
        evidence={"reason": reason},
        remedy=remedy,
    )


def _latency(case: _Case) -> _Outcome:
    """p99 below the limit, with its interval over the runs; which latency it is stands in the title."""
    metric, what = (
        ("ttft_p99_ms", "p99 of time to first token") if case.is_server else ("latency_p99_ms", "p99 of latency")
    )
    limit = case.policy.limits.latency_p99_ms
    sample = sample_of(case.runs, metric)
    if sample is None:
        reason = _absent(case.runs, metric)
        return _unknown(metric, f"{what} < {limit:g} ms", reason, "measure longer, or see the run's log")
    location, low, high = (None if part is None else float(np.exp(part)) for part in one_sample(sample, _level(case)))
    value = location or 0.0
    own = [run.metrics[metric] for run in case.runs if run.value(metric) is not None]
    if len(own) == 1:
        # One run has no spread over runs: what is left is its own interval, of which an end may be open.
        low, high = own[0].ci_low, own[0].ci_high
    samples = min(item.n or 0 for item in own)
    unsure = low is None or high is None or low < limit <= high
    doubt = _doubt(case, samples, low, high)
    # A value above the limit is a breach even of few samples: the true p99 of few lies above theirs, if anything.
    state = LimitState.BREACHED if value >= limit else LimitState.NOT_EVALUABLE if doubt else LimitState.MET
    found = f"{what} {quantity(value, metric)}"
    known = f"{found} {'≥' if state is LimitState.BREACHED else '<'} {limit:g} ms"
    return _Outcome(
        state=state,
        title=f"{found}: whether it is < {limit:g} ms is not evaluable: {doubt}" if value < limit and doubt else known,
        metric=metric,
        value=value,
        evidence={
            "limit_ms": limit,
            "latency": metric,
            "ci_low_ms": low,
            "ci_high_ms": high,
            "runs": len(case.runs),
            "samples_per_run": samples,
            "reason": doubt or "clear of the limit",
        },
        confidence="low" if unsure or samples < TAIL_MIN_SAMPLES else "high",
        remedy="see the telemetry of its runs for what bounds it, or raise limits.latency_p99_ms"
        if state is LimitState.BREACHED
        else "raise duration_s, for 1,000 samples a run; repeat more often",
    )


def _doubt(case: _Case, samples: int, low: float | None, high: float | None) -> str | None:
    """Return why the p99 does not tell on which side of the limit it lies; ``None`` where it does."""
    limit = case.policy.limits.latency_p99_ms
    if samples < P99_MIN_SAMPLES:
        return f"{count(samples, 'sample')} a run, of which a p99 is the slowest one or two"
    if low is None or high is None:
        return f"one run of {samples} samples, whose interval of p99 has no end above"
    if low < limit <= high:
        return f"its interval [{low:.4g}, {high:.4g}] ms reaches across the limit ({samples} samples a run)"
    return None


def _tokens(case: _Case, comparisons: Sequence[Comparison]) -> _Outcome:
    """Tokens per second (engines: inferences per second) not below the baseline, as the verdict found it."""
    metric = "output_tokens_s" if case.is_server else "throughput_qps"
    what = "tokens/s" if case.is_server else "inferences/s (an engine has no tokens)"
    mine = [item for item in comparisons if item.case_key == case.key]
    found = next((item for item in mine if item.metric == metric), None)
    if found is None:
        return _unknown(metric, f"{what} against the baseline", *_uncompared(metric, mine, comparisons))
    if found.effect is None:
        return _unknown(metric, f"{what} against the baseline", found.why, "repeat more often")
    if found.verdict is Verdict.INCONCLUSIVE:
        return _unknown(metric, f"{what} against the baseline", found.why, "repeat more often")
    breached = found.verdict is Verdict.REGRESSED
    return _Outcome(
        state=LimitState.BREACHED if breached else LimitState.MET,
        title=f"{what} {percent(found.effect.rel)} against the baseline ({found.verdict.value})",
        metric=metric,
        value=found.candidate_value,
        evidence={
            "baseline": found.baseline_value,
            "candidate": found.candidate_value,
            "rel": found.effect.rel,
            "ci_low": found.effect.ci_low,
            "ci_high": found.effect.ci_high,
            "reason": found.why,
        },
        remedy="compare the two sessions",
    )


def _uncompared(metric: str, mine: Sequence[Comparison], every: Sequence[Comparison]) -> tuple[str, str]:
    """Return why a case has no comparison of its throughput, and what to do."""
    if not every:
        return "nothing to compare with", "measure a baseline"
    compared = [item for item in mine if item.effect is not None or item.baseline_value is not None]
    if mine and not compared:
        # The case itself was refused, whatever the metric that it is listed under.
        return mine[0].why, "measure the same case in both sessions"
    others = f", only of {listed(item.metric for item in compared)}" if compared else ""
    return f"its case has no comparison of {metric}{others}", f"add {metric} to gate.metrics of the policy"


def _device_mean(case: _Case, metric: str) -> tuple[float | None, str, str | None]:
    """Return the mean over the runs of a device metric, its source, and why there is none."""
    if is_cpu(case.device):
        return None, "", f"the case runs on a CPU ({case.device})"
    known = [run.metrics[metric] for run in case.runs if run.value(metric) is not None]
    if not known:
        return None, "", _absent(case.runs, metric)
    sources = sorted({value.source or "unknown" for value in known})
    foreign = [source for source in sources if source not in UNIT_SOURCES]
    if foreign:
        return None, "", f"source {foreign[0]} does not count the hardware units' cycles"
    return float(np.mean([value.value for value in known if value.value is not None])), "+".join(sources), None


GPM_REMEDY = "GPM needs a Hopper GPU or newer; below it a DCGM host engine with profiling metrics"


def _sm_active(case: _Case) -> _Outcome:
    limit = case.policy.limits.sm_active_pct
    metric = "sm_active_mean_pct"
    value, source, reason = _device_mean(case, metric)
    if value is None:
        return _unknown(metric, f"SM activity > {limit:g} %", reason or "", GPM_REMEDY)
    met = value > limit
    return _Outcome(
        state=LimitState.MET if met else LimitState.BREACHED,
        title=f"SM activity {value:.0f} % {'>' if met else '≤'} {limit:g} %",
        metric=metric,
        value=value,
        evidence={
            "limit_pct": limit,
            "source": source,
            "reason": "low is not bad by itself: a batch of one made for latency leaves SMs idle",
        },
        remedy="raise the batch or run several streams, if throughput is the aim",
        severity=Severity.INFO,
    )


def _dram(case: _Case) -> _Outcome:
    limit = case.policy.limits.dram_bw_max_pct
    metric = "dram_bw_mean_pct_of_peak"
    value, source, reason = _device_mean(case, metric)
    if value is None:
        return _unknown(metric, "memory bandwidth within spec", reason or "", GPM_REMEDY)
    met = value <= limit
    title = (
        f"memory bandwidth {value:.0f} % of peak, within spec (80 % is full in practice)"
        if met
        else f"memory bandwidth {value:.0f} % of peak is more than the GPU has: a measuring error"
    )
    return _Outcome(
        state=LimitState.MET if met else LimitState.BREACHED,
        title=title,
        metric=metric,
        value=value,
        evidence={"limit_pct": limit, "share_of_peak_pct": value, "source": source, "reason": title},
        remedy="do not use this run's telemetry; check the collector's quality block",
    )


def _tensor(case: _Case) -> _Outcome:
    limit = case.policy.limits.tensor_active_pct
    metric = "tensor_active_mean_pct"
    value, source, reason = _device_mean(case, metric)
    if value is None:
        return _unknown(metric, "compute utilisation near peak", reason or "", GPM_REMEDY)
    met = value >= limit
    return _Outcome(
        state=LimitState.MET if met else LimitState.BREACHED,
        title=f"tensor pipes active {value:.0f} % of cycles, {'near peak' if met else f'below {limit:g} %'}",
        metric=metric,
        value=value,
        evidence={
            "limit_pct": limit,
            "source": source,
            "reason": "75 to 80 % is the practical ceiling; memory-bound work is rightly far below",
        },
        remedy="see the telemetry of its runs: what else bounds this case?",
        severity=Severity.INFO,
    )


def _absent(runs: Sequence[RunFacts], metric: str) -> str:
    reasons = [run.metrics[metric].absent_reason for run in runs if metric in run.metrics]
    return next((reason for reason in reasons if reason), f"no run has {metric}")


def _level(case: _Case) -> float:
    return case.policy.gate.confidence
