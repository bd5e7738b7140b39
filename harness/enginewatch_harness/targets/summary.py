"""The metrics ``server_*`` of one run, from its ``server_samples``. Pure.

Levels (running, waiting, KV cache) are taken over the samples inside the measuring phase; a sample that covers one
iteration of the scheduler weighs as much as the iteration lasted. Counters are differenced between the last sample
before the phase and the first after it, or the outermost inside it, so up to one scrape's interval of warm-up and drain
is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import MetricValue

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METRIC_KEYS = (
    "server_running_mean",
    "server_waiting_mean",
    "server_waiting_max",
    "server_kv_cache_max_pct",
    "server_preemptions",
    "server_prefix_hit_pct",
    "server_queue_mean_ms",
)


def summarise_server(samples: pa.Table | None, window_ns: tuple[int, int], *, absent: str | None) -> list[MetricValue]:
    """Return all metrics of the server.

    Args:
        samples: Table ``server_samples``; ``None`` where there is none.
        window_ns: Start and end of the measuring phase, in the table's time.
        absent: Why there are no samples; used where ``samples`` is ``None`` or empty.
    """
    if samples is None or samples.num_rows == 0:
        why = absent or "the server's metrics were not scraped"
        return [MetricValue(metric=key, value=None, absent_reason=why) for key in METRIC_KEYS]
    view = _View(samples, window_ns)
    return [
        view.level("server_running_mean", "requests_running", _mean),
        view.level("server_waiting_mean", "requests_waiting", _mean),
        view.level("server_waiting_max", "requests_waiting", _max),
        view.level("server_kv_cache_max_pct", "kv_cache_used_pct", _max),
        view.count("server_preemptions", "preemptions"),
        view.ratio(
            "server_prefix_hit_pct", "prefix_hit_tokens", "prefix_query_tokens", 100.0, "no prompt was looked up"
        ),
        view.ratio("server_queue_mean_ms", "queue_time_ns", "queue_count", 1e-6, "no request left the queue"),
    ]


def _mean(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights)) if weights.sum() > 0 else float(values.mean())


def _max(values: Floats, weights: Floats) -> float:
    return float(values.max())


class _View:
    """The samples of one run, seen through its measuring phase."""

    def __init__(self, samples: pa.Table, window_ns: tuple[int, int]) -> None:
        self._samples = samples
        self._t_ns = samples["t_ns"].to_numpy()
        self._start, self._end = window_ns
        self._source = str(samples["source"][0].as_py())

    def _column(self, name: str) -> tuple[Floats, NDArray[np.int64]]:
        """Return the values that are there and their times."""
        values = self._samples[name].to_numpy().astype(np.float64)
        there = ~np.isnan(values)
        return values[there], self._t_ns[there]

    def _absent(self, metric: str, why: str) -> MetricValue:
        return MetricValue(metric=metric, value=None, absent_reason=why, source=self._source)

    def level(self, metric: str, column: str, join: Callable[[Floats, Floats], float]) -> MetricValue:
        """Return a level over the measuring phase."""
        values, t_ns = self._column(column)
        if values.size == 0:
            return self._absent(metric, f"{self._source} does not tell {column}")
        inside = (t_ns >= self._start) & (t_ns < self._end)
        if not inside.any():
            return self._absent(metric, "no scrape fell into the measuring phase")
        weights, weighed_ns = self._column("iteration_ns")
        weighed = weights[np.isin(weighed_ns, t_ns[inside])] if weights.size == self._t_ns.size else None
        fits = weighed is not None and weighed.size == int(inside.sum())
        value = join(values[inside], weighed if fits and weighed is not None else np.ones(int(inside.sum())))
        return MetricValue(metric=metric, value=value, n=int(inside.sum()), source=self._source)

    def difference(self, column: str) -> float | str:
        """Return how far a counter ran in the measuring phase, or why nobody knows."""
        values, t_ns = self._column(column)
        if values.size == 0:
            return f"{self._source} does not tell {column}"
        before, after = np.flatnonzero(t_ns <= self._start), np.flatnonzero(t_ns >= self._end)
        first = int(before[-1]) if before.size else 0
        last = int(after[0]) if after.size else values.size - 1
        if last <= first:
            return "fewer than two scrapes bound the measuring phase"
        if (np.diff(values[first : last + 1]) < 0).any():
            return f"{column} ran backwards: the server was restarted"
        return float(values[last] - values[first])

    def count(self, metric: str, column: str) -> MetricValue:
        """Return how far a counter ran."""
        found = self.difference(column)
        if isinstance(found, str):
            return self._absent(metric, found)
        return MetricValue(metric=metric, value=found, source=self._source)

    def ratio(self, metric: str, above: str, below: str, scale: float, none: str) -> MetricValue:
        """Return one counter's difference over another's."""
        top, bottom = self.difference(above), self.difference(below)
        if isinstance(top, str) or isinstance(bottom, str):
            return self._absent(metric, top if isinstance(top, str) else str(bottom))
        if bottom == 0:
            return self._absent(metric, none)
        return MetricValue(metric=metric, value=top / bottom * scale, n=round(bottom), source=self._source)
