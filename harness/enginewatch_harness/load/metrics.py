"""The metrics of a load, from the table ``llm_requests``. Pure.

Definitions. A latency counts from the request's start: the intended time in the open loop, the time when its
bytes went to the socket in the closed loop (when connecting began, where it needed a connection of its own).
TTFT ends with the first event that has content, TTFO with the first that is not reasoning, E2E with the last;
ITL is every gap between consecutive content events, pooled over requests; TPOT is (E2E - TTFT) / (output
tokens - 1) of a request. They cover the completed requests that started in the measuring phase. An answer that
came whole has an E2E and counts in the rates; it has no TTFT, ITL or TPOT.

Rates count what arrived inside the window (see ``window``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import MetricValue
from enginewatch_db.quantile import HD_MAX_N, estimate, harrell_davis, interval_ranks
from enginewatch_harness.load.arrays import LoadArrays, column, load_arrays, start_ns
from enginewatch_harness.load.window import Totals, totals
from enginewatch_harness.summarise import LEVELS as QUANTILES

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "LEVELS",
    "NS_PER_MS",
    "ClientStats",
    "Totals",
    "column",
    "latency_metrics",
    "measured",
    "start_ns",
    "totals",
]

NS_PER_MS = 1e6
_ALL = ("p50", "p90", "p95", "p99", "p999")
LEVELS: dict[str, tuple[str, ...]] = {"ttft": _ALL, "itl": _ALL, "tpot": _ALL, "e2e": _ALL}
TTFO_LEVELS = ("p50", "p99")
CONFIDENCE = 0.95

NOTHING_COMPLETED = "no request of the measuring phase completed"
NO_USAGE = "the server reported no token usage"
NO_STREAM = "the answers came whole: the endpoint does not stream"
ONE_EVENT = "no request had more than one token"
ONE_READ = "all tokens of a request came in one read"
NOT_RECORDED = "the tool did not record it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """What one process of the load generator knows about itself in the measuring window.

    Attributes:
        cpu_pct: CPU time of its thread over the window's length; ``None`` where the window did not end or was short.
        waited_pct: Time that its thread had work and no core, over the window's length; ``None`` where unknown.
        loop_lateness_ns: How late the event loop was, at regular times.
        process: Number of the process, as in the column ``process`` of the requests.
    """

    cpu_pct: float | None
    waited_pct: float | None
    loop_lateness_ns: NDArray[np.int64]
    process: int = 0


def measured(requests: pa.Table) -> pa.Table:
    """Return the completed requests that started in the measuring phase."""
    import pyarrow.compute as pc

    ok = pc.and_(pc.equal(requests["phase"], "measure"), pc.equal(requests["status"], "ok"))
    return requests.filter(ok)


def absent(metric: str, why: str) -> MetricValue:
    """Return a metric without a value, and why."""
    return MetricValue(metric=metric, value=None, absent_reason=why)


def load_metrics(requests: pa.Table, counted: Totals, clients: tuple[ClientStats, ...] = ()) -> tuple[MetricValue, ...]:
    """Return the metrics that need neither a spec nor a window; ``judgement.judge_load`` returns all.

    Args:
        requests: The table of all requests.
        counted: What ``totals`` counted in the measuring window.
        clients: What the load generator knows about itself, one entry a process; empty where nothing is known.
    """
    arrays = load_arrays(requests)
    return (*latency_metrics(arrays), *rate_metrics(arrays, counted), *client_metrics(arrays, clients))


def latency_metrics(arrays: LoadArrays) -> tuple[MetricValue, ...]:
    """Return TTFT, TTFO, ITL, TPOT, E2E, interactivity, and the share of gaps of zero."""
    found = []
    for stem in ("ttft", "tpot", "e2e"):
        found += _quantiles(stem, _values_ns(arrays, stem), LEVELS[stem], _why_none(arrays, stem))
    gaps = arrays.gaps_of(arrays.chosen)
    told = gaps if gaps.any() else gaps[:0]
    found += _quantiles("itl", told, LEVELS["itl"], _why_none(arrays, "itl"))
    return (*found, *_ttfo(arrays), _interactivity(arrays), _zero_gaps(arrays, gaps))


def _values_ns(arrays: LoadArrays, stem: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = getattr(arrays, f"{stem}_ns")[arrays.chosen]
    return values[~np.isnan(values)]


def _why_none(arrays: LoadArrays, stem: str) -> str:
    """Return why no request has this latency, in case none has."""
    chosen = arrays.chosen
    if not chosen.any():
        return NOTHING_COMPLETED
    if stem == "e2e":
        return NOT_RECORDED
    if np.isnan(arrays.ttft_ns[chosen]).all():
        # An answer that came whole has at most one content event; a tool that kept no TTFT counted none.
        return NO_STREAM if (arrays.events[chosen] <= 1).any() else NOT_RECORDED
    if stem == "ttft" or not arrays.has_gaps[chosen].any():
        return NOT_RECORDED
    return ONE_READ if np.diff(arrays.offsets)[chosen].any() else ONE_EVENT


def _quantiles(stem: str, values_ns: NDArray[np.generic], levels: tuple[str, ...], why_none: str) -> list[MetricValue]:
    """Return the quantiles of a stem in ms, with their order-statistic intervals."""
    n = values_ns.size
    if n == 0:
        return [absent(f"{stem}_{level}_ms", why_none) for level in levels]
    found = []
    ranked = _ranked(values_ns, tuple(QUANTILES[level] for level in levels))
    for level in levels:
        q = QUANTILES[level]
        low, high = (None if rank is None else float(ranked[rank]) / NS_PER_MS for rank in _ends(n, q))
        value = _at(ranked, q) / NS_PER_MS
        found.append(MetricValue(metric=f"{stem}_{level}_ms", value=value, ci_low=low, ci_high=high, n=n))
    return found


def _ends(n: int, q: float) -> tuple[int | None, int | None]:
    return interval_ranks(n, q, CONFIDENCE)


def _ranked(values: NDArray[np.generic], levels: tuple[float, ...]) -> NDArray[np.generic]:
    """Return the values in order; above ``HD_MAX_N``, only those that quantiles of ``levels`` need are in place.

    Millions of gaps are partitioned in a sixth of the time that they are sorted in.
    """
    n = values.size
    if n <= HD_MAX_N:
        return np.sort(values)
    middles = [int((n - 1) * q) for q in levels]
    ends = [rank for q in levels for rank in _ends(n, q) if rank is not None]
    values.partition(sorted({*middles, *(rank + 1 for rank in middles), *ends}))
    return values


def _at(ranked: NDArray[np.generic], q: float) -> float:
    """Return a quantile as ``enginewatch_db.quantile`` does: Harrell-Davis, or between the two nearest samples."""
    if ranked.size <= HD_MAX_N:
        return harrell_davis(ranked.astype(np.float64), q)
    rank = (ranked.size - 1) * q
    below, above = float(ranked[int(rank)]), float(ranked[int(rank) + 1])
    return below + (above - below) * (rank - int(rank))


def _ttfo(arrays: LoadArrays) -> list[MetricValue]:
    ttft, ttfo = arrays.ttft_ns[arrays.chosen], arrays.ttfo_ns[arrays.chosen]
    if not ttft.size or np.isnan(ttft).all():
        return [absent(f"ttfo_{level}_ms", _why_none(arrays, "ttft")) for level in TTFO_LEVELS]
    if not (ttfo > ttft).any():
        return [absent(f"ttfo_{level}_ms", "no reasoning was seen: TTFO is TTFT") for level in TTFO_LEVELS]
    return _quantiles("ttfo", ttfo[~np.isnan(ttfo)], TTFO_LEVELS, NOT_RECORDED)


def _interactivity(arrays: LoadArrays) -> MetricValue:
    tpot_ms = _values_ns(arrays, "tpot") / NS_PER_MS
    if not tpot_ms.size:
        return absent("tokens_s_per_user", _why_none(arrays, "tpot"))
    middle = estimate(tpot_ms, 0.5)
    if middle.value <= 0:
        return absent("tokens_s_per_user", "all tokens of a request came in one read")

    def inverse(tpot: float | None) -> float | None:
        return 1000 / tpot if tpot else None

    return MetricValue(
        metric="tokens_s_per_user",
        value=1000 / middle.value,
        ci_low=inverse(middle.ci_high),
        ci_high=inverse(middle.ci_low),
        n=middle.n,
    )


def _zero_gaps(arrays: LoadArrays, gaps_ns: NDArray[np.int64]) -> MetricValue:
    if not gaps_ns.size:
        return absent("zero_gap_pct", _why_none(arrays, "itl"))
    zeros = gaps_ns.size - int(np.count_nonzero(gaps_ns))
    return MetricValue(metric="zero_gap_pct", value=100 * zeros / gaps_ns.size, n=int(gaps_ns.size))


def rate_metrics(arrays: LoadArrays, counted: Totals, devices: int | None = None) -> tuple[MetricValue, ...]:
    """Return tokens and requests per second, the share that failed, and how usage and tokenizer agree.

    Args:
        arrays: All requests.
        counted: What arrived inside the window.
        devices: GPUs behind the server; ``None`` where unknown.
    """
    rates = _rates(counted)
    output = rates[0]
    if output.value is None:
        per_gpu = absent("output_tokens_s_per_gpu", str(output.absent_reason))
    elif not devices:
        per_gpu = absent("output_tokens_s_per_gpu", "how many GPUs serve is not known")
    else:
        per_gpu = MetricValue(metric="output_tokens_s_per_gpu", value=output.value / devices, n=output.n)
    return (*rates, per_gpu, _failed_pct(arrays), _usage_vs_tokenizer(arrays))


def _rates(counted: Totals) -> list[MetricValue]:
    names = ("output_tokens_s", "input_tokens_s", "total_tokens_s", "requests_s")
    if counted.window_s <= 0:
        return [absent(name, "the load ended before the measuring phase began") for name in names]
    if counted.output_tokens == 0 and counted.completed == 0:
        return [absent(name, "no token of a completed request arrived in the measuring phase") for name in names]
    n, inputs = counted.completed, counted.input_tokens
    output = counted.output_tokens if counted.output_known else None
    values = (output, inputs, None if inputs is None or output is None else inputs + output, counted.completed)
    return [
        absent(name, NO_USAGE) if value is None else MetricValue(metric=name, value=value / counted.window_s, n=n)
        for name, value in zip(names, values, strict=True)
    ]


def _failed_pct(arrays: LoadArrays) -> MetricValue:
    due = int(arrays.measured.sum())
    if due == 0:
        return absent("requests_failed_pct", "no request started in the measuring phase")
    failed = int((arrays.measured & ~arrays.ok).sum())
    return MetricValue(metric="requests_failed_pct", value=100 * failed / due, n=due)


def _usage_vs_tokenizer(arrays: LoadArrays) -> MetricValue:
    both = arrays.chosen & ~np.isnan(arrays.usage_tokens) & (arrays.tokenizer_tokens > 0)
    if not both.any():
        missing = np.isnan(arrays.tokenizer_tokens).all()
        why = "no tokenizer was given" if missing else "no completed request has both counts"
        return absent("usage_vs_tokenizer_pct", why)
    ratio = arrays.usage_tokens[both].sum() / arrays.tokenizer_tokens[both].sum()
    return MetricValue(metric="usage_vs_tokenizer_pct", value=100 * float(ratio - 1), n=int(both.sum()))


def send_lateness_ns(arrays: LoadArrays) -> NDArray[np.float64]:
    """Return send start minus intended time of the measuring phase's requests that were sent; open loop only."""
    late = (arrays.sent_ns - arrays.intended_ns)[arrays.measured]
    return late[~np.isnan(late)]


def client_metrics(arrays: LoadArrays, clients: tuple[ClientStats, ...]) -> tuple[MetricValue, ...]:
    """Return what the load generator knows about itself: of all its processes, and of the busiest.

    Args:
        arrays: All requests.
        clients: One entry a process; empty where a tool recorded nothing of itself.
    """
    late_ms = send_lateness_ns(arrays) / NS_PER_MS
    if late_ms.size:
        sends = _p99("send_lateness_p99_ms", late_ms)
    else:
        told = "a closed loop has no intended send times" if clients else NOT_RECORDED
        sends = absent("send_lateness_p99_ms", told)
    if not clients:
        names = ("loop_lateness_p99_ms", "client_cpu_pct", "client_processes")
        return (sends, *(absent(name, NOT_RECORDED) for name in names))
    loops = np.concatenate([client.loop_lateness_ns for client in clients])
    shares = [client.cpu_pct for client in clients if client.cpu_pct is not None]
    return (
        sends,
        _p99("loop_lateness_p99_ms", loops / NS_PER_MS)
        if loops.size
        else absent("loop_lateness_p99_ms", "the measuring phase was too short for a tick"),
        MetricValue(metric="client_cpu_pct", value=max(shares))
        if shares
        else absent("client_cpu_pct", "the measuring phase did not end, or was under 0.1 s"),
        MetricValue(metric="client_processes", value=len(clients)),
    )


def _p99(metric: str, values_ms: NDArray[np.float64]) -> MetricValue:
    found = estimate(values_ms, 0.99)
    return MetricValue(metric=metric, value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, n=found.n)
