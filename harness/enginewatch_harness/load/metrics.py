"""The metrics of a load, from the table ``llm_requests``. Pure.

Definitions. A latency counts from the request's start: the intended time in the open loop, the time when its
bytes went to the socket in the closed loop (when connecting began, where it needed a connection of its own).
TTFT ends with the first event that has content, E2E with the last; ITL is every gap between consecutive
content events, pooled over requests; TPOT is (E2E - TTFT) / (output tokens - 1) of a request. They cover the
completed requests that started in the measuring phase.

Tokens per second count what *arrived* inside the measuring window, whenever its request started: each content
event at its own time, weighted by the request's output tokens over its content events (1 where the server
sends one token an event); prompt tokens at the request's first content event, when its prefill was over. Only
completed requests count, so a request that failed halfway adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.metrics import MetricValue
from enginewatch_db.quantile import estimate
from enginewatch_harness.summarise import quantile_metrics

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

NS_PER_MS = 1e6
LEVELS: dict[str, tuple[str, ...]] = {
    "ttft": ("p50", "p90", "p95", "p99"),
    "itl": ("p50", "p90", "p95", "p99", "p999"),
    "tpot": ("p50", "p99"),
    "e2e": ("p50", "p90", "p95", "p99"),
}
NOTHING_COMPLETED = "no request of the measuring phase completed"
NO_USAGE = "the server reported no token usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """What the load generator knows about itself in the measuring window.

    Attributes:
        cpu_pct: CPU time of its thread over the window's length; ``None`` where the window did not end or was short.
        waited_pct: Time that its thread had work and no core, over the window's length; ``None`` where unknown.
        loop_lateness_ns: How late the event loop was, at regular times.
    """

    cpu_pct: float | None
    waited_pct: float | None
    loop_lateness_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What arrived inside the measuring window.

    Attributes:
        completed: Requests whose last content event did.
        output_tokens: Tokens of completed requests.
        input_tokens: Prompt tokens of completed requests; ``None`` where the server did not report them.
        window_s: Length of the window.
    """

    completed: int
    output_tokens: float
    input_tokens: int | None
    window_s: float


def column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a numeric column with NaN for null; for use inside this package only, never as a result."""
    found: NDArray[np.float64] = table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def measured(requests: pa.Table) -> pa.Table:
    """Return the completed requests that started in the measuring phase."""
    import pyarrow.compute as pc

    ok = pc.and_(pc.equal(requests["phase"], "measure"), pc.equal(requests["status"], "ok"))
    return requests.filter(ok)


def pooled_gaps_ns(requests: pa.Table) -> NDArray[np.int64]:
    """Return all gaps between consecutive content events, request after request."""
    import pyarrow.compute as pc

    gaps: NDArray[np.int64] = pc.list_flatten(requests["itl_ns"]).to_numpy().astype(np.int64)
    return gaps


def start_ns(requests: pa.Table) -> NDArray[np.int64]:
    """Return from when each request's latencies count, relative to the run's origin."""
    import pyarrow.compute as pc

    connecting = pc.fill_null(requests["connect_ns"], 0)
    began = pc.coalesce(requests["intended_at_ns"], pc.subtract(requests["sent_at_ns"], connecting))
    found: NDArray[np.int64] = began.to_numpy().astype(np.int64)
    return found


def totals(requests: pa.Table, window_ns: tuple[int, int]) -> Totals:
    """Count what arrived inside the window, by the rule of this module.

    Args:
        requests: The whole table, all phases.
        window_ns: Start (inclusive) and end (exclusive), relative to the run's origin.
    """
    import pyarrow.compute as pc

    begin, end = window_ns
    done = requests.filter(pc.equal(requests["status"], "ok"))
    completed, output, prompts, known = 0, 0.0, 0, True
    starts = start_ns(done)
    columns = (done[name].to_pylist() for name in ("ttft_ns", "itl_ns", "output_tokens", "prompt_tokens"))
    for start, ttft, gaps, tokens, prompt in zip(starts, *columns, strict=True):
        times = start + ttft + np.concatenate([[0], np.cumsum(np.asarray(gaps, dtype=np.int64))])
        inside = (times >= begin) & (times < end)
        output += float(inside.sum()) * (1.0 if tokens is None else tokens / times.size)
        completed += bool(inside[-1])
        if inside[0]:
            known = known and prompt is not None
            prompts += prompt or 0
    return Totals(
        completed=completed,
        output_tokens=output,
        input_tokens=prompts if known else None,
        window_s=max(0, end - begin) / 1e9,
    )


def load_metrics(requests: pa.Table, counted: Totals, client: ClientStats) -> tuple[MetricValue, ...]:
    """Return every LLM metric, absent ones with their reason.

    Args:
        requests: The table of all requests.
        counted: What ``totals`` counted in the measuring window.
        client: What the load generator knows about itself.
    """
    chosen = measured(requests)
    return (
        *_latencies(chosen),
        *_rates(counted),
        _interactivity(chosen),
        _failed_pct(requests),
        _zero_gaps(chosen),
        *_client(requests, client),
    )


def _absent(metric: str, why: str) -> MetricValue:
    return MetricValue(metric=metric, value=None, absent_reason=why)


def _latencies(chosen: pa.Table) -> list[MetricValue]:
    found = []
    for stem, levels in LEVELS.items():
        values = pooled_gaps_ns(chosen) if stem == "itl" else column(chosen, f"{stem}_ns")
        values_ms = values[~np.isnan(values)] / NS_PER_MS
        if values_ms.size:
            found += quantile_metrics(stem, values_ms, levels)
        else:
            why = NOTHING_COMPLETED if chosen.num_rows == 0 else "no request had more than one token"
            found += [_absent(f"{stem}_{level}_ms", why) for level in levels]
    return found


def _rates(counted: Totals) -> list[MetricValue]:
    names = ("output_tokens_s", "input_tokens_s", "total_tokens_s", "requests_s")
    if counted.window_s <= 0:
        return [_absent(name, "the load ended before the measuring phase began") for name in names]
    if counted.output_tokens == 0:
        return [_absent(name, "no token of a completed request arrived in the measuring phase") for name in names]
    n, inputs = counted.completed, counted.input_tokens
    values = {
        "output_tokens_s": counted.output_tokens,
        "input_tokens_s": inputs,
        "total_tokens_s": None if inputs is None else inputs + counted.output_tokens,
        "requests_s": counted.completed,
    }
    return [
        _absent(name, NO_USAGE) if value is None else MetricValue(metric=name, value=value / counted.window_s, n=n)
        for name, value in values.items()
    ]


def _interactivity(chosen: pa.Table) -> MetricValue:
    tpot_ms = column(chosen, "tpot_ns") / NS_PER_MS
    tpot_ms = tpot_ms[~np.isnan(tpot_ms)]
    if not tpot_ms.size:
        return _absent("tokens_s_per_user", NOTHING_COMPLETED if chosen.num_rows == 0 else "one token a request")
    middle = estimate(tpot_ms, 0.5)
    if middle.value <= 0:
        return _absent("tokens_s_per_user", "all tokens of a request came in one read")

    def inverse(tpot: float | None) -> float | None:
        return 1000 / tpot if tpot else None

    return MetricValue(
        metric="tokens_s_per_user",
        value=1000 / middle.value,
        ci_low=inverse(middle.ci_high),
        ci_high=inverse(middle.ci_low),
        n=middle.n,
    )


def _failed_pct(requests: pa.Table) -> MetricValue:
    import pyarrow.compute as pc

    due = requests.filter(pc.equal(requests["phase"], "measure"))
    if due.num_rows == 0:
        return _absent("requests_failed_pct", "no request started in the measuring phase")
    failed = pc.sum(pc.equal(due["status"], "error")).as_py()
    return MetricValue(metric="requests_failed_pct", value=100 * failed / due.num_rows, n=due.num_rows)


def _zero_gaps(chosen: pa.Table) -> MetricValue:
    gaps = pooled_gaps_ns(chosen)
    if not gaps.size:
        return _absent("zero_gap_pct", NOTHING_COMPLETED if chosen.num_rows == 0 else "one content event a request")
    return MetricValue(metric="zero_gap_pct", value=100 * float((gaps == 0).mean()), n=int(gaps.size))


def send_lateness_ns(requests: pa.Table) -> NDArray[np.float64]:
    """Return send start minus intended time of the measuring phase's requests that were sent; open loop only."""
    import pyarrow.compute as pc

    due = requests.filter(pc.equal(requests["phase"], "measure"))
    late = column(due, "sent_at_ns") - column(due, "intended_at_ns")
    return late[~np.isnan(late)]


def _client(requests: pa.Table, client: ClientStats) -> list[MetricValue]:
    found = []
    late_ms = send_lateness_ns(requests) / NS_PER_MS
    if late_ms.size:
        found += [_p99("send_lateness_p99_ms", late_ms)]
    else:
        found += [_absent("send_lateness_p99_ms", "a closed loop has no intended send times")]
    if client.loop_lateness_ns.size:
        found += [_p99("loop_lateness_p99_ms", client.loop_lateness_ns / NS_PER_MS)]
    else:
        found += [_absent("loop_lateness_p99_ms", "the measuring phase was too short for a tick")]
    if client.cpu_pct is None:
        found += [_absent("client_cpu_pct", "the measuring phase did not end, or was under 0.1 s")]
    else:
        found += [MetricValue(metric="client_cpu_pct", value=client.cpu_pct)]
    return found


def _p99(metric: str, values_ms: NDArray[np.float64]) -> MetricValue:
    found = estimate(values_ms, 0.99)
    return MetricValue(metric=metric, value=found.value, ci_low=found.ci_low, ci_high=found.ci_high, n=found.n)
