"""The performance summary of a trtexec log, and the same numbers computed from its samples. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from enginewatch_harness.parse.trtexec_facts import finite
from enginewatch_harness.parse.trtexec_lines import LogLine

_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf|nan))"
_THROUGHPUT = re.compile(rf"^Throughput: {_NUMBER} qps")
_LATENCY = re.compile(
    rf"^([A-Z][\w -]*?): min = {_NUMBER} ms, max = {_NUMBER} ms, mean = {_NUMBER} ms, median = {_NUMBER} ms"
)
_PERCENTILE = re.compile(rf"percentile\(([\d.eE+-]+)%\) = {_NUMBER} ms")
_WALLTIME = re.compile(rf"^Total Host Walltime: {_NUMBER} s")
_GPU_TIME = re.compile(rf"^Total GPU Compute Time: {_NUMBER} s")
_WARMUP = re.compile(rf"^Warmup completed (\d+) queries over {_NUMBER} ms")
_TRACE = re.compile(rf"^Timing trace has (\d+) queries over {_NUMBER} s")

LATENCY_LINES = ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")
"""Names of the latency lines of TensorRT 8.5 to 11; ``Latency`` is H2D + GPU + D2H of one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStats:
    """One latency line, in ms; ``None`` where the tool printed ``inf`` or ``nan``.

    ``percentiles`` maps the percentage as a number to its value.
    """

    min_ms: float | None
    max_ms: float | None
    mean_ms: float | None
    median_ms: float | None
    percentiles: dict[float, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceSummary:
    """The tool's own summary.

    Attributes:
        throughput_qps: Queries per second; images per second for engines with an implicit batch (8 and 9).
        latencies: Name of the line → its numbers; see ``LATENCY_LINES``.
        walltime_s: From the start of the first transfer in to the end of the last one out, after the warm-up.
        gpu_time_s: Mean GPU compute time times the number of queries.
        warmup_queries: Queries in the warm-up.
        warmup_ms: Length of the warm-up.
        queries: Queries after the warm-up.
    """

    throughput_qps: float | None
    latencies: dict[str, LatencyStats]
    walltime_s: float | None = None
    gpu_time_s: float | None = None
    warmup_queries: int | None = None
    warmup_ms: float | None = None
    queries: int | None = None


def read_summary(lines: Iterable[LogLine]) -> PerformanceSummary | None:
    """Read the summary; ``None`` when the log has no throughput line.

    Verbose logs explain the same words ("Latency: the summation of ..."): only informative lines with numbers count.
    """
    texts = [line.text for line in lines if line.severity in ("I", None) and not line.library]
    throughput = _search(_THROUGHPUT, texts)
    if throughput is None:
        return None
    warmup, trace = _search(_WARMUP, texts), _search(_TRACE, texts)
    walltime, gpu_time = _search(_WALLTIME, texts), _search(_GPU_TIME, texts)
    return PerformanceSummary(
        throughput_qps=finite(throughput[1]),
        latencies=dict(found for found in map(_read_latency, texts) if found),
        walltime_s=finite(walltime[1]) if walltime else None,
        gpu_time_s=finite(gpu_time[1]) if gpu_time else None,
        warmup_queries=int(warmup[1]) if warmup else None,
        warmup_ms=finite(warmup[2]) if warmup else None,
        queries=int(trace[1]) if trace else None,
    )


def _search(pattern: re.Pattern[str], texts: Sequence[str]) -> re.Match[str] | None:
    return next((match for match in map(pattern.match, texts) if match), None)


def _read_latency(text: str) -> tuple[str, LatencyStats] | None:
    match = _LATENCY.match(text)
    if match is None:
        return None
    low, high, mean, median = (finite(value) for value in match.groups()[1:])
    percentiles = {float(level): finite(value) for level, value in _PERCENTILE.findall(text) if _is_number(level)}
    return match[1], LatencyStats(min_ms=low, max_ms=high, mean_ms=mean, median_ms=median, percentiles=percentiles)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def tool_percentile(ordered: NDArray[np.float64], percent: float) -> float | None:
    """Return the percentile as trtexec defines it: no interpolation, single-precision arithmetic.

    The value at index ``max(n - 1 - int((1 - p / 100) * n), 0)`` of the ascending values
    (``findPercentile`` in samples/common/sampleReporting.cpp of TensorRT 8.6 to 11).

    Args:
        ordered: Values, ascending.
        percent: 0 to 100.
    """
    n = len(ordered)
    if n == 0:
        return None
    excluded = int((np.float32(1) - np.float32(percent) / np.float32(100)) * np.float32(n))
    return float(ordered[max(n - 1 - excluded, 0)])


def latency_stats(values_ms: NDArray[np.float64], percents: Iterable[float]) -> LatencyStats:
    """Compute one latency line as the tool would, but with an exact mean (the tool's is accumulated in fp32)."""
    ordered = np.sort(values_ms)
    if len(ordered) == 0:
        return LatencyStats(min_ms=None, max_ms=None, mean_ms=None, median_ms=None)
    return LatencyStats(
        min_ms=float(ordered[0]),
        max_ms=float(ordered[-1]),
        mean_ms=float(ordered.mean()),
        median_ms=float(np.median(ordered)),
        percentiles={percent: tool_percentile(ordered, percent) for percent in percents},
    )


def coefficient_of_variation_pct(values_ms: NDArray[np.float64]) -> float | None:
    """Return the population standard deviation over the mean in percent, as the tool's warning does."""
    mean = float(values_ms.mean()) if len(values_ms) else 0.0
    return 100 * float(values_ms.std()) / mean if mean > 0 else None
