"""The JSON files that trtexec exports: times, profile, layer information. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import conform
from enginewatch_harness.parse.trtexec_summary import PerformanceSummary, latency_stats

_SPANS = (
    ("startH2dMs", "endH2dMs", "h2dMs"),
    ("startComputeMs", "endComputeMs", "computeMs"),
    ("startD2hMs", "endD2hMs", "d2hMs"),
)
_TIME_KEYS = ("latencyMs", *(key for span in _SPANS for key in span))
_OLD_NAMES = {
    "startH2dMs": "startEnqMs",
    "endH2dMs": "endEnqMs",
    "h2dMs": "inMs",
    "startD2hMs": "startOutMs",
    "endD2hMs": "endOutMs",
    "d2hMs": "outMs",
}
"""TensorRT 7 calls transfers *in* and *out*, and writes the transfer in under the names of the enqueue, and the other
way round (``exportJSONTrace`` in samples/common/sampleReporting.cpp of 7.2)."""

_MAX_MS = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """``--exportTimes`` after the warm-up, in ms since the tool began to run; ordered by start.

    The file has six significant digits: beyond one second, starts and ends are known to 0.01 ms, durations stay
    exact. The duration of an enqueue cannot be had from it.
    """

    start_h2d_ms: NDArray[np.float64]
    end_d2h_ms: NDArray[np.float64]
    h2d_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    d2h_ms: NDArray[np.float64]
    latency_ms: NDArray[np.float64]

    @property
    def walltime_s(self) -> float:
        """From the start of the first transfer in to the end of the last one out."""
        return float(self.end_d2h_ms.max() - self.start_h2d_ms.min()) / 1000


def parse_times(text: str, *, warmup_ms: float) -> Times:
    """Read ``times.json``.

    Args:
        text: Content of the file.
        warmup_ms: Queries that began to compute earlier are dropped; TensorRT before 8.6.1 writes them too.

    Raises:
        MeasurementError: The file is not such an array, or nothing is left of it.
    """
    records = [_numbers(record) for record in _load_array(text, "times.json")]
    kept = [record for record in records if record["startComputeMs"] >= warmup_ms]
    if not kept:
        raise MeasurementError(
            f"times.json has {len(records)} queries and none after the warm-up of {warmup_ms:g} ms",
            code="no_samples",
            remedy="raise duration_s in the plan",
        )
    kept.sort(key=lambda record: record["startH2dMs"])
    columns = {name: np.array([record[name] for record in kept], np.float64) for name in _TIME_KEYS}
    _check_spans(columns)
    return Times(
        start_h2d_ms=columns["startH2dMs"],
        end_d2h_ms=columns["endD2hMs"],
        h2d_ms=columns["h2dMs"],
        compute_ms=columns["computeMs"],
        d2h_ms=columns["d2hMs"],
        latency_ms=columns["latencyMs"],
    )


def resolution(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far a printed number may be from the true one: six significant digits, of a single-precision value."""
    size = np.maximum(np.abs(values), 1e-30)
    digit: NDArray[np.float64] = np.power(10.0, np.floor(np.log10(size)) - 5)
    return 0.6 * digit


def _check_spans(columns: dict[str, NDArray[np.float64]]) -> None:
    """Refuse records that contradict themselves: every duration is written twice, and the latency is their sum.

    Raises:
        MeasurementError: ``results_damaged``.
    """
    parts = columns["h2dMs"] + columns["computeMs"] + columns["d2hMs"]
    spare = sum(
        (resolution(columns[name]) for name in ("h2dMs", "computeMs", "d2hMs")), resolution(columns["latencyMs"])
    )
    wrong = np.abs(parts - columns["latencyMs"]) > 2 * spare
    for start, end, span in _SPANS:
        spare = resolution(columns[start]) + resolution(columns[end]) + resolution(columns[span])
        wrong |= np.abs(columns[end] - columns[start] - columns[span]) > 2 * spare
        wrong |= columns[span] < 0
    if wrong.any():
        index = int(np.argmax(wrong))
        raise MeasurementError(
            f"times.json contradicts itself: the query that began at {columns['startH2dMs'][index]:g} ms "
            f"lasted {columns['latencyMs'][index]:g} ms by one number and not by the others",
            code="results_damaged",
            remedy="the file was altered after trtexec wrote it: measure again, and check the disk",
        )


def _load_array(text: str, name: str) -> list[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(
            f"{name} is not JSON: {error}", code="results_damaged", remedy="measure again: the file was cut off"
        ) from error
    if not isinstance(content, list):
        raise MeasurementError(f"{name} is not a JSON array", code="results_damaged", remedy="measure again")
    return content


def _numbers(record: Any) -> dict[str, float]:  # noqa: ANN401 - any JSON value
    values: dict[str, float] = {}
    names = _OLD_NAMES if isinstance(record, dict) and "startOutMs" in record else {}
    for key in _TIME_KEYS:
        value = record.get(names.get(key, key)) if isinstance(record, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MAX_MS:
            raise MeasurementError(
                f"times.json has a record that is no query: {str(record)[:120]}",
                code="results_damaged",
                remedy="measure again",
            )
        values[key] = float(value)
    return values


def latency_samples(times: Times, *, offset_ns: int = 0) -> pa.Table:
    """Return the samples as a table of ``tables.LATENCY_SAMPLES``.

    Args:
        times: The queries after the warm-up.
        offset_ns: Where the tool's time base lies, relative to the run's ``t0_ns``.
    """
    return conform(
        "latency_samples",
        pa.table(
            {
                "start_ns": _nanoseconds(times.start_h2d_ms) + offset_ns,
                "latency_ns": _nanoseconds(times.latency_ms),
                "gpu_ns": _nanoseconds(times.compute_ms),
                "h2d_ns": _nanoseconds(times.h2d_ms),
                "d2h_ns": _nanoseconds(times.d2h_ms),
            }
        ),
    )


def _nanoseconds(values_ms: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(values_ms * 1e6).astype(np.int64)


def summarise_times(times: Times, percents: Iterable[float]) -> PerformanceSummary:
    """Compute the tool's summary from its samples, by the tool's own definitions; enqueue times are not in them."""
    levels = tuple(percents)
    columns = {
        "Latency": times.latency_ms,
        "H2D Latency": times.h2d_ms,
        "GPU Compute Time": times.compute_ms,
        "D2H Latency": times.d2h_ms,
    }
    n = len(times.latency_ms)
    return PerformanceSummary(
        throughput_qps=n / times.walltime_s if times.walltime_s > 0 else None,
        latencies={name: latency_stats(values, levels) for name, values in columns.items()},
        walltime_s=times.walltime_s,
        gpu_time_s=float(times.compute_ms.sum()) / 1000,
        queries=n,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One layer of ``--exportProfile``; times are ``None`` where the tool wrote ``nan``."""

    name: str
    time_ms: float | None
    average_ms: float | None
    median_ms: float | None
    percentage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``--exportProfile``: times summed over ``count`` inferences, layers in the order of execution."""

    count: int
    layers: tuple[LayerTime, ...]


_NUMBER = r"(-?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|inf|nan))"
_COUNT = re.compile(r',?\s*{\s*"count"\s*:\s*(\d{1,18})\s*},?')
_LAYER = re.compile(
    rf',?\s*{{\s*"name"\s*:\s*"(?P<name>.*)"\s*,\s*"timeMs"\s*:\s*{_NUMBER}\s*,\s*"averageMs"\s*:\s*{_NUMBER}\s*,'
    rf'(?:\s*"medianMs"\s*:\s*{_NUMBER}\s*,)?\s*"percentage"\s*:\s*{_NUMBER}\s*}},?'
)
_SAME = 2e-4
"""Relative: totals, averages and percentages are rounded to six digits from single precision."""


def parse_profile(text: str) -> Profile:
    """Read ``profile.json``, which is no proper JSON: names are pasted in raw, and ``nan`` occurs.

    Files that scripts appended to one another occur too: the last profile stands.

    Raises:
        MeasurementError: ``no_samples``: there is no profile in it; ``results_damaged``: the last one is cut off, has
            lines that are none, or numbers that contradict one another.
    """
    count: int | None = None
    layers: list[LayerTime] = []
    state = "outside"
    for line in (line.strip() for line in text.split("\n")):  # not splitlines: names may hold such separators
        if line == "[":
            count, layers, state = None, [], "inside"
        elif line == "]" and state == "inside":
            state = "closed"
        elif match := _COUNT.fullmatch(line):
            count, layers = int(match[1]), []
        elif state == "inside" and count is not None and (match := _LAYER.fullmatch(line)):
            layers.append(_layer_time(match))
        elif state == "inside" and line:
            state = "damaged"
    if count is None and state in ("outside", "closed"):
        raise MeasurementError("profile.json has no count of inferences", code="no_samples")
    if state != "closed" or count is None or not _agrees(count, layers):
        raise MeasurementError(
            "profile.json is cut off or altered: its lines do not add up",
            code="results_damaged",
            remedy="profile again",
        )
    return Profile(count=count, layers=tuple(layers))


def _layer_time(match: re.Match[str]) -> LayerTime:
    time_ms, average_ms, median_ms, percentage = (_maybe(value) for value in match.groups()[1:])
    return LayerTime(
        name=match["name"], time_ms=time_ms, average_ms=average_ms, median_ms=median_ms, percentage=percentage
    )


def _agrees(count: int, layers: Sequence[LayerTime]) -> bool:
    """Return whether every layer's share is that of its time in the total, and its average that of its count."""
    total = sum(layer.time_ms or 0.0 for layer in layers)
    for layer in layers:
        if layer.time_ms is None or not total:
            continue
        share = 100 * layer.time_ms / total
        if layer.percentage is not None and abs(layer.percentage - share) > _SAME * share + 1e-9:
            return False
        # A layer may have been timed once less than the others where the last inference was cut short.
        if layer.average_ms is not None and not (
            (1 - _SAME) * layer.average_ms * (count - 1)
            <= layer.time_ms
            <= (1 + _SAME) * layer.average_ms * (count + 1)
        ):
            return False
    return True


def _maybe(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < _MAX_MS else None
