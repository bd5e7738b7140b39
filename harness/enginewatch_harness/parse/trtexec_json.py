"""The JSON files that trtexec exports: times, profile, layer information. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import conform
from enginewatch_harness.parse.trtexec_summary import PerformanceSummary, latency_stats

_TIME_KEYS = ("startEnqMs", "startH2dMs", "startComputeMs", "endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs")
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

    def column(name: str) -> NDArray[np.float64]:
        return np.array([record[name] for record in kept], np.float64)

    return Times(
        start_h2d_ms=column("startH2dMs"),
        end_d2h_ms=column("endD2hMs"),
        h2d_ms=column("h2dMs"),
        compute_ms=column("computeMs"),
        d2h_ms=column("d2hMs"),
        latency_ms=column("latencyMs"),
    )


def _load_array(text: str, name: str) -> list[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{name} is not JSON: {error}", code="no_samples") from error
    if not isinstance(content, list):
        raise MeasurementError(f"{name} is not a JSON array", code="no_samples")
    return content


def _numbers(record: Any) -> dict[str, float]:  # noqa: ANN401 - any JSON value
    values: dict[str, float] = {}
    for key in _TIME_KEYS:
        value = record.get(key) if isinstance(record, dict) else None
        if not isinstance(value, int | float) or not abs(value) < _MAX_MS:
            raise MeasurementError(f"times.json has a record that is no query: {str(record)[:120]}", code="no_samples")
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


_NUMBER = r"(-?(?:[\d.]+(?:[eE][-+]?\d+)?|inf|nan))"
_COUNT = re.compile(r'"count"\s*:\s*(\d{1,18})\s*}')
_LAYER = re.compile(
    rf'"name"\s*:\s*"(?P<name>.*)"\s*,\s*"timeMs"\s*:\s*{_NUMBER}\s*,\s*"averageMs"\s*:\s*{_NUMBER}\s*,'
    rf'(?:\s*"medianMs"\s*:\s*{_NUMBER}\s*,)?\s*"percentage"\s*:\s*{_NUMBER}\s*}}'
)


def parse_profile(text: str) -> Profile:
    """Read ``profile.json``, which is no proper JSON: names are pasted in raw, and ``nan`` occurs.

    Files that scripts appended to one another occur too: the last profile stands.

    Raises:
        MeasurementError: There is no profile in it.
    """
    count: int | None = None
    layers: list[LayerTime] = []
    for line in text.split("\n"):  # not splitlines: names may hold separators that are no line ends
        if match := _COUNT.search(line):
            count, layers = int(match[1]), []
        if match := _LAYER.search(line):
            time_ms, average_ms, median_ms, percentage = (_maybe(value) for value in match.groups()[1:])
            layers.append(
                LayerTime(
                    name=match["name"],
                    time_ms=time_ms,
                    average_ms=average_ms,
                    median_ms=median_ms,
                    percentage=percentage,
                )
            )
    if count is None:
        raise MeasurementError("profile.json has no count of inferences", code="no_samples")
    return Profile(count=count, layers=tuple(layers))


def _maybe(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < _MAX_MS else None
