"""The policy of the gate: what counts, how much matters, what fails. Read from TOML, checked key by key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from enginewatch_db.errors import UsageError
from enginewatch_db.metrics import METRICS, Direction, MetricKind

TAIL_PCT = 15.0
"""A p99 of 200 samples has 5 to 6 % noise, one of 1,000 about 3 %: a 5 % threshold on it would never be conclusive."""

UPPER_PCT = 10.0
"""p90 and p95 lie between the median and the tail in noise as well."""

BUILD_PCT = 20.0
"""Builds time thousands of tactics and are not deterministic; load times depend on the page cache."""

DEFAULT_PCT = 5.0
"""Medians and throughput: with five runs a side and the usual 1 to 2 % between runs, 5 % is where "unchanged" and
"regressed" can both be proven (``benchmarks/gate_statistics.py``)."""

REL_L2_LIMITS: dict[str, float] = {
    "fp32": 1e-3,
    "tf32": 1e-2,
    "fp16": 2e-2,
    "bf16": 1e-1,
    "q8_0": 1e-1,
    "int8": 0.3,
    "int8_dynamic": 0.3,
    "fp8": 0.3,
    "best": 0.3,
    "int4": 0.5,
    "fp4": 0.5,
    "q4_0": 0.5,
}
"""Largest relative L2 distance from fp32, by requested precision. Rounding alone gives about 2^-11 (fp16, tf32), 2^-8
(bf16), 2^-4 (fp8 E4M3) and 2^-7 of the range (int8) an operation, and networks of some fifty layers were seen to
multiply that by 10 to 40 (random weights, the hardest case); beyond these limits something is broken, not rounded."""

LimitName = Literal["latency_p99_ms", "tokens_vs_baseline", "sm_active_pct", "dram_bw_max_pct", "tensor_active_pct"]
LIMITS: tuple[LimitName, ...] = (
    "latency_p99_ms",
    "tokens_vs_baseline",
    "sm_active_pct",
    "dram_bw_max_pct",
    "tensor_active_pct",
)


def default_threshold_pct(metric: str) -> float:
    """Return the smallest change of a metric that matters by default, in percent."""
    if METRICS[metric].kind is MetricKind.BUILD:
        return BUILD_PCT
    if "_p99" in metric or metric == "latency_tail_log_ratio":
        return TAIL_PCT
    return UPPER_PCT if "_p90" in metric or "_p95" in metric else DEFAULT_PCT


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GateRules(_Strict):
    """How the verdict is made and what fails the gate.

    Attributes:
        confidence: Level of every interval.
        correction: ``bh``: Benjamini-Hochberg over all comparisons of a judgement; ``none``: each by itself.
        inconclusive: Whether an inconclusive comparison fails the gate (exit 3). When none is conclusive it does so
            anyway: a gate that saw nothing must not be green.
        no_baseline: Whether a missing baseline fails the gate (exit 3).
        coverage: ``require``: every case of the baseline must be judged, else exit 3; ``report``: it is listed.
        metrics: Metrics to judge; empty: those that the metric table marks as gated.
    """

    confidence: float = Field(default=0.95, ge=0.8, le=0.999)
    correction: Literal["bh", "none"] = "bh"
    inconclusive: Literal["pass", "fail"] = "pass"
    no_baseline: Literal["pass", "fail"] = "fail"
    coverage: Literal["report", "require"] = "report"
    metrics: tuple[str, ...] = ()


class Limits(_Strict):
    """Fixed limits on the candidate alone.

    Attributes:
        latency_p99_ms: p99 of latency (engines) or of time to first token (servers) stays below it.
        sm_active_pct: SM activity is above it; judged from GPM, DCGM or CUPTI only.
        dram_bw_max_pct: DRAM bandwidth above this share of its peak is a measuring error.
        tensor_active_pct: Tensor-pipe activity from here on is "near peak" (75 to 80 % is the practical ceiling).
        fail_on: Names of limits whose breach fails the gate (exit 1); the others are reported.
    """

    latency_p99_ms: float = Field(default=200.0, gt=0)
    sm_active_pct: float = Field(default=70.0, ge=0, le=100)
    dram_bw_max_pct: float = Field(default=102.0, ge=100)
    tensor_active_pct: float = Field(default=60.0, ge=0, le=100)
    fail_on: tuple[LimitName, ...] = ()


class AccuracyRules(_Strict):
    """How far outputs may be from the fp32 reference's, by requested precision.

    Attributes:
        wrong: ``fail``: a case whose outputs are beyond a limit is ``failed``, however fast; ``report``: it is listed.
        rel_l2: Precision → largest relative L2 distance; over the built-in limits.
        cosine_min: Precision → smallest cosine; none by default.
        top1_min_pct: Precision → smallest top-1 agreement in percent; none by default, since it is a matter of the
            task and of real inputs.
        worse_factor: A distance within its limit that grew by more than this factor is a regression.
    """

    wrong: Literal["fail", "report"] = "fail"
    rel_l2: dict[str, float] = Field(default_factory=lambda: dict(REL_L2_LIMITS))
    cosine_min: dict[str, float] = Field(default_factory=dict)
    top1_min_pct: dict[str, float] = Field(default_factory=dict)
    worse_factor: float = Field(default=2.0, gt=1)

    @field_validator("rel_l2", "cosine_min", "top1_min_pct")
    @classmethod
    def _known_precisions(cls, value: dict[str, float]) -> dict[str, float]:
        for precision, limit in value.items():
            if precision not in REL_L2_LIMITS:
                raise ValueError(f"unknown precision {precision!r}: {nearest(precision, list(REL_L2_LIMITS))}")
            if limit < 0:
                raise ValueError(f"{precision} = {limit:g}: give a number of at least 0")
        return value

    @field_validator("rel_l2")
    @classmethod
    def _over_the_defaults(cls, value: dict[str, float]) -> dict[str, float]:
        return {**REL_L2_LIMITS, **value}

    def limit(self, kind: Literal["rel_l2", "cosine_min", "top1_min_pct"], precision: str) -> float | None:
        """Return the limit of a kind for a precision; ``None`` where there is none."""
        given: dict[str, float] = getattr(self, kind)
        return given.get(precision)


class Policy(_Strict):
    """All of a policy file; what it does not say has the default that ``ci/policies/default.toml`` shows.

    Attributes:
        gate: How the verdict is made.
        practical_pct: Metric → smallest change that matters, in percent.
        limits: Fixed limits on the candidate.
        accuracy: How far outputs may be from fp32.
    """

    gate: GateRules = GateRules()
    practical_pct: dict[str, float] = Field(default_factory=dict)
    limits: Limits = Limits()
    accuracy: AccuracyRules = AccuracyRules()

    @field_validator("practical_pct")
    @classmethod
    def _in_range(cls, value: dict[str, float]) -> dict[str, float]:
        for metric, pct in value.items():
            if not 0 < pct < 100:
                raise ValueError(f"{metric} = {pct:g}: give a percentage above 0 and below 100")
        return value

    def threshold_rel(self, metric: str) -> float:
        """Return the practical threshold of a metric as a fraction (0.05 is 5 %)."""
        return self.practical_pct.get(metric, default_threshold_pct(metric)) / 100

    def gated_metrics(self) -> tuple[str, ...]:
        """Return the metrics to judge, in the order of the metric table."""
        chosen = self.gate.metrics or tuple(key for key, definition in METRICS.items() if definition.gated)
        return tuple(key for key in METRICS if key in chosen)


def nearest(name: str, known: list[str]) -> str:
    """Return a hint that names the nearest known word, or all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _known_keys(place: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Policy
    for part in place:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _explain(error: ValidationError, source: str) -> UsageError:
    first = error.errors()[0]
    location = first["loc"]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        return UsageError(
            f"{source}: unknown policy key {key!r}", remedy=nearest(str(location[-1]), _known_keys(location[:-1]))
        )
    message = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"{source}: {key} = {first['input']!r} is not usable: {message}")


def _check_metrics(policy: Policy, source: str) -> None:
    named = [("gate.metrics", metric) for metric in policy.gate.metrics]
    named += [("practical_pct", metric) for metric in policy.practical_pct]
    for place, metric in named:
        if metric not in METRICS:
            raise UsageError(f"{source}: {place}: unknown metric {metric!r}", remedy=nearest(metric, list(METRICS)))
        if METRICS[metric].direction is Direction.INFO:
            raise UsageError(
                f"{source}: {place}: {metric!r} has no better or worse, so it cannot be judged",
                remedy="leave it out; the dashboard shows it",
            )


def parse_policy(content: Mapping[str, Any], source: str) -> Policy:
    """Return the policy that ``content`` describes.

    Args:
        content: What a TOML file (or the policy table of a plan) holds.
        source: What to call it in messages.

    Raises:
        UsageError: An unknown key or metric (the nearest known one is named), or a value out of range.
    """
    try:
        policy = Policy.model_validate(dict(content))
    except ValidationError as error:
        raise _explain(error, source) from error
    _check_metrics(policy, source)
    return policy


def policy_of_text(text: str, source: str) -> Policy:
    """Return the policy that a TOML text describes.

    Args:
        text: The text.
        source: What to call it in messages.

    Raises:
        UsageError: It is not TOML, or not a policy.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}", remedy="see ci/policies/default.toml") from error
    return parse_policy(content, source)


def load_policy(path: Path | None) -> Policy:
    """Return the policy of a TOML file, or the default one for ``None``.

    Raises:
        UsageError: The file is absent, not TOML, or not a policy.
    """
    if path is None:
        return Policy()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the policy {path} cannot be read: {error}", remedy="see ci/policies/default.toml") from error
    return policy_of_text(text, f"the policy {path}")
