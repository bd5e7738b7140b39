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
_THROUGHPUT = re.compile(rf"^Throughput: {_NUMBER} qps$")
_LATENCY = re.compile(
    rf"^([A-Z][\w -]*?): min = {_NUMBER} ms, max = {_NUMBER} ms, mean = {_NUMBER} ms, median = {_NUMBER} ms"
    r"((?:, percentile\([^()]{1,20}%\) = [-+\w.]+ ms)*)$"
)
_PERCENTILE = re.compile(rf"percentile\(([\d.eE+-]+)%\) = {_NUMBER} ms")
_WALLTIME = re.compile(rf"^Total Host Walltime: {_NUMBER} s$")
_GPU_TIME = re.compile(rf"^Total GPU Compute Time: {_NUMBER} s$")
_WARMUP = re.compile(rf"^Warmup completed (\d{{1,12}}) queries over {_NUMBER} ms$")
_TRACE = re.compile(rf"^Timing trace has (\d{{1,12}}) queries over {_NUMBER} s$")
"""All anchored at both ends: a line that was cut off or run into by another one is no number."""

LATENCY_LINES = ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")
"""Latency lines of TensorRT 8.4 to 11 (before: an end-to-end line too); ``Latency`` is H2D + GPU + D2H of a query."""


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
    """Read the summary; ``None`` when the log has no throughput line, or two that differ.

    Verbose logs explain the same words ("Latency: the summation of ..."): only informative lines with numbers count.
    """
    texts = [line.text for line in lines if line.severity in ("I", None) and not line.library and line.whole]
    throughput = _only(_THROUGHPUT, texts)
    if throughput is None:
        return read_block(texts)
    warmup, trace = _only(_WARMUP, texts), _only(_TRACE, texts)
    walltime, gpu_time = _only(_WALLTIME, texts), _only(_GPU_TIME, texts)
    return PerformanceSummary(
        throughput_qps=finite(throughput[1]),
        latencies=_latencies(texts),
        walltime_s=finite(walltime[1]) if walltime else None,
        gpu_time_s=finite(gpu_time[1]) if gpu_time else None,
        warmup_queries=int(warmup[1]) if warmup else None,
        warmup_ms=finite(warmup[2]) if warmup else None,
        queries=int(trace[1]) if trace else None,
    )


def _only(pattern: re.Pattern[str], texts: Sequence[str]) -> re.Match[str] | None:
    found = {match[0]: match for match in map(pattern.match, texts) if match}
    return next(iter(found.values())) if len(found) == 1 else None


def _latencies(texts: Sequence[str]) -> dict[str, LatencyStats]:
    found: dict[str, LatencyStats] = {}
    twice: set[str] = set()
    for name, stats in (item for item in map(_read_latency, texts) if item):
        if found.setdefault(name, stats) != stats:
            twice.add(name)
    return {name: stats for name, stats in found.items() if name not in twice}


_BLOCKS = {"Host Latency": "Latency", "Enqueue Time": "Enqueue Time", "GPU Compute": "GPU Compute Time"}
_BLOCK_VALUE = re.compile(rf"^(min|max|mean|median): {_NUMBER} ms(?: \(end to end {_NUMBER} ms\))?$")
_BLOCK_PERCENTILE = re.compile(
    rf"^percentile: {_NUMBER} ms at {_NUMBER}%(?: \(end to end {_NUMBER} ms at {_NUMBER}%\))?$"
)
_BLOCK_THROUGHPUT = re.compile(rf"^throughput: {_NUMBER} qps$")
_BLOCK_WALLTIME = re.compile(rf"^walltime: {_NUMBER} s$")
_BLOCK_GPU_TIME = re.compile(rf"^total compute time: {_NUMBER} s$")


def read_block(texts: Sequence[str]) -> PerformanceSummary | None:
    """Read the summary as TensorRT 7 prints it: one number to a line, under headings, so in this order alone."""
    throughput = _only(_BLOCK_THROUGHPUT, texts)
    if throughput is None:
        return None
    values: dict[str, dict[str, float | None]] = {}
    percentiles: dict[str, dict[float, float | None]] = {}
    name: str | None = None
    for text in texts:
        if text in _BLOCKS:
            name = _BLOCKS[text]
        elif name is not None and (match := _BLOCK_VALUE.match(text)):
            values.setdefault(name, {}).setdefault(match[1], finite(match[2]))
        elif name is not None and (match := _BLOCK_PERCENTILE.match(text)) and (level := finite(match[2])) is not None:
            percentiles.setdefault(name, {}).setdefault(level, finite(match[1]))
    trace = _only(_TRACE, texts)
    walltime, gpu_time = _only(_BLOCK_WALLTIME, texts), _only(_BLOCK_GPU_TIME, texts)
    return PerformanceSummary(
        throughput_qps=finite(throughput[1]),
        latencies={
            name: LatencyStats(
                min_ms=found.get("min"),
                max_ms=found.get("max"),
                mean_ms=found.get("mean"),
                median_ms=found.get("median"),
                percentiles=percentiles.get(name, {}),
            )
            for name, found in values.items()
        },
        walltime_s=finite(walltime[1]) if walltime else None,
        gpu_time_s=finite(gpu_time[1]) if gpu_time else None,
        queries=int(trace[1]) if trace else None,
    )


def _read_latency(text: str) -> tuple[str, LatencyStats] | None:
    match = _LATENCY.match(text)
    if match is None:
        return None
    low, high, mean, median = (finite(value) for value in match.groups()[1:5])
    percentiles = {float(level): finite(value) for level, value in _PERCENTILE.findall(match[6]) if _is_number(level)}
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


def mean_tolerance(count: int) -> float:
    """Return how far the tool's mean of ``count`` values may be from the exact one, relative to it.

    It adds values up in single precision, one after the other (``getPerformanceResult`` in
    samples/common/sampleReporting.cpp): each addition errs by at most half a unit in the last place of the sum so far,
    which is 2^-24 of it. Over a million short queries that may be percents.
    """
    return 2e-5 + count * 2.0**-24


def coefficient_of_variation_pct(values_ms: NDArray[np.float64]) -> float | None:
    """Return the population standard deviation over the mean in percent, as the tool's warning does."""
    mean = float(values_ms.mean()) if len(values_ms) else 0.0
    return 100 * float(values_ms.std()) / mean if mean > 0 else None
