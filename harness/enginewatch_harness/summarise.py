"""From the raw samples of an engine run to its metrics. Pure; the one place where they are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import MetricValue
from enginewatch_db.quantile import MIN_SAMPLES, TAIL_MIN_SAMPLES, estimate, tail_log_ratio
from enginewatch_db.validity import Reason

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

NS_PER_MS = 1e6
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def quantile_metrics(stem: str, values_ms: NDArray[np.float64], levels: tuple[str, ...]) -> list[MetricValue]:
    """Return ``<stem>_<level>_ms`` for each level, with its order-statistic interval."""
    found = []
    for level in levels:
        result = estimate(values_ms, LEVELS[level])
        found.append(
            MetricValue(
                metric=f"{stem}_{level}_ms",
                value=result.value,
                ci_low=result.ci_low,
                ci_high=result.ci_high,
                n=result.n,
            )
        )
    return found


def engine_metrics(samples: pa.Table, *, batch: int | None, window_ns: tuple[int, int]) -> tuple[MetricValue, ...]:
    """Return the latency and throughput metrics of one run.

    Args:
        samples: A ``latency_samples`` table.
        batch: Items in one inference; ``None`` where the notion does not apply.
        window_ns: Start and end of the measuring phase; throughput is inferences over its length.
    """
    latency_ms = samples.column("latency_ns").to_numpy() / NS_PER_MS
    n = int(latency_ms.size)
    if n == 0:
        return (MetricValue(metric="latency_p50_ms", value=None, absent_reason="no sample was measured"),)
    metrics = quantile_metrics("latency", latency_ms, tuple(LEVELS))
    mean = float(latency_ms.mean())
    metrics += [
        MetricValue(metric="latency_mean_ms", value=mean, n=n),
        MetricValue(metric="latency_min_ms", value=float(latency_ms.min()), n=n),
        MetricValue(metric="latency_max_ms", value=float(latency_ms.max()), n=n),
        MetricValue(metric="latency_cov_pct", value=float(latency_ms.std() / mean * 100), n=n),
    ]
    tail = tail_log_ratio(latency_ms)
    absent = None if tail is not None else f"{n} samples: fewer than 100"
    metrics.append(MetricValue(metric="latency_tail_log_ratio", value=tail, n=n, absent_reason=absent))
    if "gpu_ns" in samples.column_names and samples.column("gpu_ns").null_count == 0:
        metrics += quantile_metrics("gpu_time", samples.column("gpu_ns").to_numpy() / NS_PER_MS, ("p50", "p99"))
    window_s = (window_ns[1] - window_ns[0]) / 1e9
    if window_s > 0:
        metrics.append(MetricValue(metric="throughput_qps", value=n / window_s, n=n))
        if batch is not None:
            metrics.append(MetricValue(metric="throughput_items_s", value=n * batch / window_s, n=n))
    return tuple(metrics)


def sample_reasons(samples: pa.Table) -> tuple[Reason, ...]:
    """Return what the number and the course of the samples say about the run's validity."""
    latency = samples.column("latency_ns").to_numpy().astype(np.float64)
    n = int(latency.size)
    if n < MIN_SAMPLES:
        return (Reason(code="too_few_samples", detail=f"{n} samples"),)
    reasons = []
    if n < TAIL_MIN_SAMPLES:
        reasons.append(Reason(code="tail_undersampled", detail=f"{n} samples"))
    drift = trend_pct(latency)
    if abs(drift) > TREND_LIMIT_PCT:
        reasons.append(Reason(code="not_steady", detail=f"the last third is {drift:+.1f} % from the first"))
    return tuple(reasons)


TREND_LIMIT_PCT = 10.0
"""A run whose last third differs by more than this from its first was still warming up, or was disturbed."""


def trend_pct(values: NDArray[np.float64]) -> float:
    """Return the median of the last third over the median of the first third, minus one, in percent."""
    third = max(1, values.size // 3)
    return float(np.median(values[-third:]) / np.median(values[:third]) - 1) * 100
