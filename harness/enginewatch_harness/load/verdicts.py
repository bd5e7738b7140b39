"""Whether a load may count: who was the bottleneck, what failed, how many samples there are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.quantile import MIN_SAMPLES, P99_MIN_SAMPLES, TAIL_MIN_SAMPLES
from enginewatch_db.validity import Reason
from enginewatch_harness.load.arrays import LoadArrays
from enginewatch_harness.load.metrics import NS_PER_MS, ClientStats

if TYPE_CHECKING:
    import pyarrow as pa

CPU_LIMIT_PCT = 90.0
CPU_GOAL_PCT = 70.0
"""Share of a core up to which a client process stays on time, with room for a burst of events."""

LOOP_LATENESS_LIMIT_MS = 2.0
SEND_LATENESS_SHARE_OF_GAP = 0.01
BUSY_HOST_PCT = 1.0
DISTURBS_SHARE = 0.10
"""A client's delay matters when it is this share of what it is added to."""

LEAST_REQUESTS = 6
"""The fewest samples whose median has an interval of 95 % with both ends."""

COUNTS_DISAGREE_PCT = 2.0


def bound_by_client(
    arrays: LoadArrays, clients: tuple[ClientStats, ...], *, rate_rps: float | None, cores: int | None = None
) -> Reason | None:
    """Return why the client was the bottleneck, or ``None``.

    Three signs, each enough (llm-load definitions), looked for in each process: its thread used over 90 % of a
    core; the p99 of its event loop's lateness was over 2 ms; the mean lateness of its sends was over 1 % of the
    mean gap between arrivals. The two latenesses count only where they are also over a tenth of what they
    disturb, the median gap between tokens and the median TTFT: on a machine whose cores the server itself
    fills, the scheduler alone makes any process a few milliseconds late now and then, which says nothing about
    a server that takes 50 ms a token. The detail ends with what to do: more processes, and how many; or a free
    host, where it was late for want of a core; or more connections, where all were taken.

    Args:
        arrays: All requests.
        clients: What each process of the load generator knows about itself; empty for another tool's load.
        rate_rps: Offered rate; ``None`` in the closed loop.
        cores: Cores that the load generator may use; ``None`` where unknown.
    """
    if not clients:
        return None
    typical = _typical(arrays, clients)
    signs, slow = [], False
    for client in clients:
        name = f"process {client.process}: " if len(clients) > 1 else ""
        own = _own_signs(client, typical)
        slow = slow or bool(own)
        late = _late_sends(arrays, client, len(clients), rate_rps, typical)
        signs += [name + sign for sign in (*own, *late)]
    if not signs:
        return None
    waits = [client.waited_pct for client in clients if client.waited_pct is not None]
    waited = max(waits, default=0.0)
    if waited > BUSY_HOST_PCT:
        signs.append(f"other processes kept it waiting for a core {waited:.0f} % of the time")
    advice = _advice(clients, slow=slow, waited_pct=waited, cores=cores)
    return Reason(code="client_bound", detail="; ".join([*signs, advice]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Typical:
    """What a client's lateness is added to: medians of the measuring phase; ``None`` where not needed, or none."""

    gap_ms: float | None
    ttft_ms: float


def _typical(arrays: LoadArrays, clients: tuple[ClientStats, ...]) -> _Typical:
    # The median of millions of gaps is not worth its time where every loop was on time.
    late = any(_loop_late_ms(client) > LOOP_LATENESS_LIMIT_MS for client in clients)
    gaps = arrays.gaps_of(arrays.chosen & late)
    ttft = arrays.ttft_ns[arrays.chosen]
    ttft = ttft[~np.isnan(ttft)]
    return _Typical(
        gap_ms=float(np.median(gaps)) / NS_PER_MS if gaps.size else None,
        ttft_ms=float(np.median(ttft)) / NS_PER_MS if ttft.size else 0.0,
    )


def _loop_late_ms(client: ClientStats) -> float:
    late = client.loop_lateness_ns
    return float(np.quantile(late, 0.99)) / NS_PER_MS if late.size else 0.0


def _own_signs(client: ClientStats, typical: _Typical) -> list[str]:
    signs = []
    if client.cpu_pct is not None and client.cpu_pct > CPU_LIMIT_PCT:
        signs.append(f"its thread used {client.cpu_pct:.0f} % of a core")
    late_ms = _loop_late_ms(client)
    if typical.gap_ms is not None and late_ms > max(LOOP_LATENESS_LIMIT_MS, DISTURBS_SHARE * typical.gap_ms):
        signs.append(f"its event loop was {late_ms:.1f} ms late at p99, with {typical.gap_ms:.1f} ms between tokens")
    return signs


def _late_sends(
    arrays: LoadArrays, client: ClientStats, processes: int, rate_rps: float | None, typical: _Typical
) -> list[str]:
    mine = arrays.measured & (arrays.process == client.process) if processes > 1 else arrays.measured
    late = (arrays.sent_ns - arrays.intended_ns)[mine]
    late = late[~np.isnan(late)]
    gap_ms = 1000 / rate_rps if rate_rps else _mean_gap_ms(arrays)
    if not late.size or gap_ms is None:
        return []
    mean_ms = float(late.mean()) / NS_PER_MS
    if mean_ms > SEND_LATENESS_SHARE_OF_GAP * gap_ms and mean_ms > DISTURBS_SHARE * typical.ttft_ms:
        return [f"it sent {mean_ms:.1f} ms late on average, with {gap_ms:.1f} ms between arrivals"]
    return []


def _mean_gap_ms(arrays: LoadArrays) -> float | None:
    """Return the mean gap between the arrivals of an open loop whose rate varies; ``None`` in the closed loop."""
    due = arrays.intended_ns[arrays.measured]
    due = due[~np.isnan(due)]
    return float(np.ptp(due)) / (due.size - 1) / NS_PER_MS if due.size > 1 else None


def processes_needed(clients: tuple[ClientStats, ...]) -> int:
    """Return how many processes would keep the busiest below ``CPU_GOAL_PCT`` of a core, one more at the least."""
    shares = [client.cpu_pct for client in clients if client.cpu_pct is not None]
    return max(len(clients) + 1, ceil(len(clients) * max(shares, default=0.0) / CPU_GOAL_PCT))


def _advice(clients: tuple[ClientStats, ...], *, slow: bool, waited_pct: float, cores: int | None) -> str:
    busiest = max((client.cpu_pct for client in clients if client.cpu_pct is not None), default=None)
    if busiest is not None and busiest < CPU_GOAL_PCT:
        if waited_pct > BUSY_HOST_PCT:
            return "free the host's cores: more processes would wait as well"
        if not slow:
            return "all its connections were taken: raise concurrency"
    needed = processes_needed(clients)
    told = f"it needs {needed} processes"
    if cores is not None and needed > cores:
        return f"{told}, and may use {cores}: lower the load, or send it from more hosts"
    return told


def failures(requests: pa.Table) -> Reason | None:
    """Return what failed in the measuring phase, most frequent class first, or ``None``."""
    import pyarrow.compute as pc

    due = requests.filter(pc.equal(requests["phase"], "measure"))
    classes = due.filter(pc.equal(due["status"], "error"))["error_class"].value_counts().to_pylist()
    if not classes:
        return None
    classes.sort(key=lambda item: -item["counts"])
    named = ", ".join(f"{item['counts']} {item['values']}" for item in classes)
    failed = sum(item["counts"] for item in classes)
    return Reason(code="requests_failed", detail=f"{failed} of {due.num_rows} requests: {named}")


def few_samples(arrays: LoadArrays) -> Reason | None:
    """Return whether there are too few samples for a median, or for a tail; ``None`` where there are enough.

    A load of fewer than 20 requests counts where they are at least six and bring a thousand gaps: then ITL,
    TPOT and the rates are sound, and the median TTFT has an interval that tells how little it is worth.
    """
    n = int(arrays.chosen.sum())
    gaps = int(np.diff(arrays.offsets)[arrays.chosen].sum())
    if n < LEAST_REQUESTS or (n < MIN_SAMPLES and gaps < TAIL_MIN_SAMPLES):
        return Reason(code="too_few_samples", detail=f"{n} completed requests with {gaps} gaps between tokens")
    if n < P99_MIN_SAMPLES:
        detail = f"{n} completed requests: p99 of TTFT, TPOT and E2E rests on the slowest one or two"
        return Reason(code="tail_undersampled", detail=detail)
    return None


def token_counts(usage_vs_tokenizer_pct: float | None) -> Reason | None:
    """Return that the server's token counts are not the tokenizer's, or ``None``."""
    if usage_vs_tokenizer_pct is None or abs(usage_vs_tokenizer_pct) <= COUNTS_DISAGREE_PCT:
        return None
    return Reason(
        code="token_counts_disagree",
        detail=f"the server's usage says {usage_vs_tokenizer_pct:+.1f} % of the tokenizer's output tokens",
    )
