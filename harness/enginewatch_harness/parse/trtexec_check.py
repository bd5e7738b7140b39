"""Whether a run's exported samples and its printed summary tell the same: a number that two sources tell is safe. Pure.

The samples are what is stored. A log that was shuffled, cut off or damaged must not change which of them count, and a
file that was damaged must not pass: so each is held against the other, by the tool's own definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.parse.trtexec_facts import MeasuringOptions
from enginewatch_harness.parse.trtexec_json import Times, resolution, summarise_times
from enginewatch_harness.parse.trtexec_summary import LatencyStats, PerformanceSummary, mean_tolerance

_REL = 2e-5
"""Both sides are printed with six significant digits from single precision."""


def whole_options(
    options: MeasuringOptions, asked: Mapping[str, float | bool], *, printed: bool, what: str
) -> MeasuringOptions:
    """Return the options that make a run's identity, none missing: a line that was lost must not begin a new series.

    Args:
        options: As the log tells them.
        asked: Name of an attribute → what was asked for.
        printed: Whether this tool prints them all: every trtexec from 8.2 to 11.1 does (its ``sampleOptions.cpp``).
            Where it may not, what was asked for stands.
        what: What was run, for the message.

    Raises:
        MeasurementError: ``results_damaged``: the tool prints an option, and the log does not tell it.
    """
    missing = options.untold()
    if missing and printed:
        raise MeasurementError(
            f"{what}: the log does not tell {', '.join(missing)}, which this trtexec prints",
            code="results_damaged",
            remedy="its lines were lost or altered, so what was measured is not known: measure again",
        )
    filled: dict[str, Any] = {name: asked[name] for name in missing}
    return replace(options, **filled)


def check_agreement(times: Times, summary: PerformanceSummary, *, streams: int | None) -> None:
    """Compare samples with the summary, as far as the summary tells.

    Args:
        times: The queries after the warm-up.
        summary: What the log says of them.
        streams: Inference streams: with several, the tool's wall time depends on the order of its own list.

    Raises:
        MeasurementError: ``results_damaged``; names the first number that differs.
    """
    for what, said, own, spare in _pairs(times, summary, alone=streams in (None, 1)):
        if said is not None and own is not None and abs(said - own) > spare:
            raise MeasurementError(
                f"times.json and the log disagree: {what} is {own:.6g} by the file and {said:.6g} by the log",
                code="results_damaged",
                remedy="one of them was cut off, altered, or is of another run: measure again",
            )


def _pairs(
    times: Times, summary: PerformanceSummary, *, alone: bool
) -> Iterator[tuple[str, float | None, float | None, float]]:
    """Yield what is compared, the log's number, the file's, and how far apart they may be."""
    levels = sorted({level for stats in summary.latencies.values() for level in stats.percentiles})
    own = summarise_times(times, levels)
    n = len(times.latency_ms)
    yield "the number of queries", _float(summary.queries), float(n), 0.5
    stamp = float(resolution(np.array([times.end_d2h_ms.max()]))[0]) / 1000
    wall = own.walltime_s or 0.0
    if alone:
        spare = 4 * stamp + _REL * wall
        yield "the wall time in s", summary.walltime_s, wall, spare
        if wall > 0 and own.throughput_qps:
            yield "the throughput", summary.throughput_qps, own.throughput_qps, own.throughput_qps * 2 * spare / wall
    gpu = own.gpu_time_s or 0.0
    yield "the total GPU time in s", summary.gpu_time_s, gpu, mean_tolerance(n) * gpu
    for name, stats in own.latencies.items():
        if name in summary.latencies:
            yield from _stats(name, summary.latencies[name], stats, mean_tolerance(n))


def _stats(
    name: str, said: LatencyStats, own: LatencyStats, spare: float
) -> Iterator[tuple[str, float | None, float | None, float]]:
    for what in ("min_ms", "max_ms", "median_ms"):
        value = getattr(own, what)
        yield f"{name}: {what}", getattr(said, what), value, _REL * (value or 0.0)
    yield f"{name}: mean_ms", said.mean_ms, own.mean_ms, spare * (own.mean_ms or 0.0)
    for level, value in said.percentiles.items():
        exact = own.percentiles.get(level)
        yield f"{name}: percentile {level:g}", value, exact, _REL * (exact or 0.0)


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
