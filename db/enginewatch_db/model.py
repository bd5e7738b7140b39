"""Facts: what a case, a run, an engine, a finding and a verdict are. Frozen, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from enginewatch_db.metrics import MetricValue
from enginewatch_db.validity import Reason, is_valid

BUNDLE_SCHEMA = 1
IDENTITY_VERSION = 1

Json = dict[str, Any]
"""A JSON object whose shape is stated where it is used."""


class Verdict(StrEnum):
    """What a comparison says. Ordered by how much attention it needs, see ``SEVERITY``."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    INCONCLUSIVE = "inconclusive"
    NOT_COMPARABLE = "not_comparable"
    FAILED = "failed"


SEVERITY: tuple[Verdict, ...] = (
    Verdict.FAILED,
    Verdict.REGRESSED,
    Verdict.NOT_COMPARABLE,
    Verdict.INCONCLUSIVE,
    Verdict.IMPROVED,
    Verdict.UNCHANGED,
)
"""Worst first: the headline of a group is its first member here."""


class RunStatus(StrEnum):
    """How a run ended."""

    OK = "ok"
    FAILED = "failed"
    NOT_AVAILABLE = "not_available"


class Phase(StrEnum):
    """The phases of a run, in their order."""

    PREFLIGHT = "preflight"
    BUILD = "build"
    LOAD = "load"
    WARMUP = "warmup"
    MEASURE = "measure"
    DRAIN = "drain"
    PROFILE = "profile"
    ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMark:
    """One phase of a run on the monotonic clock (ns)."""

    name: Phase
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run has no result.

    Attributes:
        code: A key of ``errors.FAILURE_CODES``.
        message: What failed, with the value and the place.
        remedy: What to do next.
    """

    code: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be equal for two runs to be compared. Hashed canonically, so floats are refused.

    Attributes:
        workload: Name of the workload in the plan.
        model: Name of the model.
        model_sha256: Hash of the model file as given; ``None`` for a remote endpoint.
        backend: Name of the backend.
        precision: Requested precision.
        device: Device product, for example ``NVIDIA H200`` or the CPU's model name.
        device_count: How many of them.
        shapes: Input shapes, ``{"input": [8, 3, 224, 224]}``; empty for servers.
        load: Load profile of a server in fixed units (``concurrency``, ``rate_mrps``, ``isl``, ``osl``).
        options: Measuring options that change what is measured (threads, CUDA graph, durations in ms).
        tool_major: Major version of the tool.
    """

    workload: str
    model: str
    model_sha256: str | None
    backend: str
    precision: str
    device: str
    device_count: int = 1
    shapes: Json = field(default_factory=dict)
    load: Json = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    tool_major: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """A built artefact.

    Attributes:
        engine_key: Content address: hash of model, backend and version, device, precision, shapes, options.
        engine_sha256: Hash of the file itself.
        path: Where it lies, relative to the workspace.
        size_bytes: Size of the file.
        build_time_s: ``None`` when it came from the cache.
        cached: Whether it was reused.
        realised_precision: What was read back from the artefact.
        fingerprint: Hash of its structure (layer types and dtypes); ``None`` where not read.
        details: Build options, versions, notes.
        model: Name of the model in the plan.
        model_sha256: Hash of the model file as given.
        backend: The tool that built it.
        tool_version: That tool's version.
        device: Product name of the device that it was built for; ``None`` where it runs on any.
        compute_capability: ``9.0``; ``None`` off NVIDIA GPUs.
        precision: Requested precision.
        shapes: Input shapes that it was built for.
        build_number: Which of the builds of this key, from 0: builds are not deterministic, so a plan may ask for more.
        built_at: When, ISO 8601 UTC.
        peak_gpu_mem_mib: Most GPU memory that the build took.
        peak_host_mem_mib: Most host memory that the build took.
    """

    engine_key: str
    engine_sha256: str
    path: str
    size_bytes: int
    cached: bool
    build_time_s: float | None = None
    realised_precision: str | None = None
    fingerprint: str | None = None
    details: Json = field(default_factory=dict)
    model: str | None = None
    model_sha256: str | None = None
    backend: str | None = None
    tool_version: str | None = None
    device: str | None = None
    compute_capability: str | None = None
    precision: str | None = None
    shapes: Json = field(default_factory=dict)
    build_number: int = 0
    built_at: str | None = None
    peak_gpu_mem_mib: float | None = None
    peak_host_mem_mib: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All of a run but its sample tables: the content of ``run.json``.

    Times on the monotonic clock are in ns; ``t0_ns`` is the run's origin. Wall times are ISO 8601 UTC.
    ``device_uuid`` is the GPU or MIG slice that the run was bound to; ``None`` off GPUs.
    """

    run_id: str
    session_id: str
    plan_name: str
    case_key: str
    repeat: int
    order_idx: int
    identity: Identity
    status: RunStatus
    started_at: str
    ended_at: str
    t0_ns: int
    environment: Json
    host: Json
    phases: tuple[PhaseMark, ...] = ()
    metrics: tuple[MetricValue, ...] = ()
    reasons: tuple[Reason, ...] = ()
    failure: Failure | None = None
    engine: EngineRecord | None = None
    realised_precision: str | None = None
    quality: Json = field(default_factory=dict)
    devices: tuple[Json, ...] = ()
    provenance: Json = field(default_factory=dict)
    session: Json = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    device_uuid: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the run may enter a verdict."""
        return self.status is RunStatus.OK and is_valid(self.reasons)


class FindingKind(StrEnum):
    """What a finding is about."""

    COMPARISON = "comparison"
    THRESHOLD = "threshold"
    VALIDITY = "validity"
    BOTTLENECK = "bottleneck"
    CHANGE_POINT = "change_point"


class Severity(StrEnum):
    """How much attention a finding needs."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A stored conclusion, with its evidence.

    Attributes:
        kind: What it is about.
        severity: How much attention it needs.
        title: One line for a person.
        session_id: The session that it was found in.
        case_key: The case; ``None`` for the whole session.
        run_id: The run; ``None`` for more than one.
        metric: The metric; ``None`` where none.
        value: The metric's value.
        evidence: Rows that show it, JSON.
        remedy: What to try.
        detector: Which rule made it.
        confidence: ``low``, ``medium`` or ``high``; ``None`` where it is a fact.
    """

    kind: FindingKind
    severity: Severity
    title: str
    session_id: str
    detector: str
    case_key: str | None = None
    run_id: str | None = None
    metric: str | None = None
    value: float | None = None
    evidence: Json = field(default_factory=dict)
    remedy: str | None = None
    confidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The estimated relative change from baseline to candidate.

    Attributes:
        rel: Candidate / baseline - 1 (0.10 is +10 %).
        ci_low: Lower end of the interval of ``rel``.
        ci_high: Upper end.
        confidence: Level of the interval, 0.95 for 95 %.
        n_baseline: Runs behind the baseline.
        n_candidate: Runs behind the candidate.
        method: How it was estimated.
    """

    rel: float
    ci_low: float
    ci_high: float
    confidence: float
    n_baseline: int
    n_candidate: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One case and metric, judged.

    Attributes:
        case_key: The case.
        series_id: Identity of the series; ``None`` when the case has no run.
        metric: A key of ``METRICS``.
        verdict: What it says.
        baseline_value: Location of the baseline's runs, in the metric's unit.
        candidate_value: Location of the candidate's runs.
        effect: ``None`` when it could not be estimated.
        threshold_rel: Practical threshold (0.05 is 5 %).
        why: One sentence: why this verdict.
        cause: Class of the cause, when one is known.
        notes: Warnings that a reader needs.
    """

    case_key: str
    series_id: str | None
    metric: str
    verdict: Verdict
    why: str
    threshold_rel: float
    baseline_value: float | None = None
    candidate_value: float | None = None
    effect: Effect | None = None
    cause: str | None = None
    notes: tuple[str, ...] = ()
