"""How many times faster a case is than the reference case of its session. Pure.

One ratio per repeat, of the two runs that shared it: a session runs every case once per repeat, so what drifts from
one repeat to the next hits both and drops out of their ratio. Ratios are taken on logarithms, their location is
Huber's and their interval Student's, as everywhere here (``stats.effect.one_sample``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from enginewatch_ci.stats import Sample
from enginewatch_ci.stats.effect import one_sample
from enginewatch_ci.stats.noise import within_sd
from enginewatch_db.metrics import METRICS, Direction, MetricValue
from enginewatch_db.model import Json

SPEEDUP_METRICS = (
    "latency_p50_ms",
    "latency_p99_ms",
    "gpu_time_p50_ms",
    "throughput_qps",
    "ttft_p50_ms",
    "itl_p50_ms",
    "output_tokens_s",
)
"""Metrics that are speeds: of the others a ratio to a reference says nothing."""

DEFAULT_REFERENCE = ("torch", "fp32")
"""Backend and precision that cases are compared with where the plan names none: the model as it was trained to run."""

CONFIDENCE = 0.95

_SHARED = ("workload", "model", "shapes", "load", "device", "device_count")
"""Parts of the identity that a case and its reference must have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One valid run.

    Attributes:
        case_key: Its case.
        repeat: Which repeat of the session.
        identity: Its identity as JSON.
        metrics: Metric key → value with its within-run interval.
    """

    case_key: str
    repeat: int
    identity: Json
    metrics: dict[str, MetricValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """One case and metric over its reference.

    Attributes:
        case_key: The case.
        reference_case_key: What it is compared with.
        metric: A key of ``METRICS``.
        speedup: How many times faster: above 1 is faster, whichever way the metric counts.
        ci_low: Lower end of the 95 % interval; ``None`` where no spread is known.
        ci_high: Upper end.
        n: Repeats behind it.
    """

    case_key: str
    reference_case_key: str
    metric: str
    speedup: float
    ci_low: float | None
    ci_high: float | None
    n: int


def speedups(runs: Sequence[Measured], reference: str | None = None) -> tuple[Speedup, ...]:
    """Return the speed-ups of all cases that have a reference, by case and metric.

    Args:
        runs: The valid runs of one session.
        reference: ``backend/precision`` of the plan; ``None``: ``torch/fp32``, and where a group of cases lacks it,
            the fp32 case of the case's own backend.
    """
    cases: dict[str, list[Measured]] = {}
    for run in sorted(runs, key=lambda run: (run.case_key, run.repeat)):
        cases.setdefault(run.case_key, []).append(run)
    found = []
    for case_key, own in cases.items():
        chosen = reference_of(own[0], [others[0] for others in cases.values()], reference)
        if chosen is not None:
            found += [
                item
                for metric in SPEEDUP_METRICS
                if (item := _speedup(case_key, own, chosen, cases[chosen], metric)) is not None
            ]
    return tuple(found)


def reference_of(case: Measured, others: Sequence[Measured], reference: str | None) -> str | None:
    """Return the key of a case's reference; ``None`` where there is none, or the case is the reference itself.

    Args:
        case: A run of the case.
        others: One run of each case of the session.
        reference: ``backend/precision`` of the plan; ``None``: the default.
    """
    alike = [other for other in others if _group(other) == _group(case)]
    backend, _, precision = (reference or "").partition("/")
    wanted = [(backend, precision)] if reference else [DEFAULT_REFERENCE, (str(case.identity.get("backend")), "fp32")]
    for name in wanted:
        matching = [other for other in alike if _variant(other) == name]
        if matching:
            # Two cases of one backend and precision differ in options: the nearest ones make the fairest pair.
            best = min(matching, key=lambda other: other.identity.get("options") != case.identity.get("options"))
            return None if _variant(case) == name else best.case_key
    return None


def _group(run: Measured) -> str:
    return json.dumps([run.identity.get(name) for name in _SHARED], sort_keys=True)


def _variant(run: Measured) -> tuple[str, str]:
    return str(run.identity.get("backend")), str(run.identity.get("precision"))


def _speedup(
    case_key: str, own: Sequence[Measured], chosen: str, reference: Sequence[Measured], metric: str
) -> Speedup | None:
    mine, theirs = _by_repeat(own, metric), _by_repeat(reference, metric)
    shared = sorted(set(mine) & set(theirs))
    if not shared:
        return None
    faster_is_less = METRICS[metric].direction is Direction.LOWER
    sign = -1.0 if faster_is_less else 1.0
    logs = np.array([sign * (math.log(mine[r][0]) - math.log(theirs[r][0])) for r in shared], dtype=np.float64)
    within = [_joined(mine[repeat][1], theirs[repeat][1]) for repeat in shared]
    value, low, high = one_sample(Sample(logs=logs, within_sd=within), CONFIDENCE)
    return Speedup(
        case_key=case_key,
        reference_case_key=chosen,
        metric=metric,
        speedup=math.exp(value),
        ci_low=None if low is None else math.exp(low),
        ci_high=None if high is None else math.exp(high),
        n=len(shared),
    )


def _by_repeat(runs: Sequence[Measured], metric: str) -> dict[int, tuple[float, float | None]]:
    """Return repeat → value and its within-run sd in log units; of a repeat that was run twice, the last run."""
    found = {}
    for run in runs:
        item = run.metrics.get(metric)
        if item is not None and item.value is not None and item.value > 0:
            found[run.repeat] = (item.value, within_sd(item.ci_low, item.value, item.ci_high))
    return found


def _joined(first: float | None, second: float | None) -> float | None:
    """Return the sd of a difference of two independent logs."""
    return None if first is None or second is None else math.hypot(first, second)
