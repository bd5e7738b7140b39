"""Whether a load may count: who was the bottleneck, what failed. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.validity import Reason
from enginewatch_harness.load.metrics import (
    NS_PER_MS,
    ClientStats,
    column,
    measured,
    pooled_gaps_ns,
    send_lateness_ns,
)

if TYPE_CHECKING:
    import pyarrow as pa

CPU_LIMIT_PCT = 90.0
LOOP_LATENESS_LIMIT_MS = 2.0
SEND_LATENESS_SHARE_OF_GAP = 0.01
BUSY_HOST_PCT = 1.0
DISTURBS_SHARE = 0.10
"""A client's delay matters when it is this share of what it is added to."""


def client_bound(requests: pa.Table, client: ClientStats, *, rate_rps: float | None) -> Reason | None:
    """Return why the client was the bottleneck, or ``None``.

    Three signs, each enough (llm-load definitions): the client's thread used over 90 % of a core; the p99 of
    the event loop's lateness was over 2 ms; the mean lateness of sends was over 1 % of the mean gap between
    arrivals. The two latenesses count only where they are also over a tenth of what they disturb, the median
    gap between tokens and the median TTFT: on a machine whose cores the server itself fills, the scheduler
    alone makes any process a few milliseconds late now and then, which says nothing about a server that takes
    50 ms a token. The detail says when the client was late for want of a core: then the host is to be freed,
    not the load to be lowered.

    Args:
        requests: The table of all requests.
        client: What the load generator knows about itself.
        rate_rps: Offered rate; ``None`` in the closed loop.
    """
    signs = []
    if client.cpu_pct is not None and client.cpu_pct > CPU_LIMIT_PCT:
        signs.append(f"its thread used {client.cpu_pct:.0f} % of a core")
    chosen = measured(requests)
    gaps = pooled_gaps_ns(chosen)
    if client.loop_lateness_ns.size and gaps.size:
        late_ms = float(np.quantile(client.loop_lateness_ns, 0.99)) / NS_PER_MS
        gap_ms = float(np.median(gaps)) / NS_PER_MS
        if late_ms > LOOP_LATENESS_LIMIT_MS and late_ms > DISTURBS_SHARE * gap_ms:
            signs.append(f"its event loop was {late_ms:.1f} ms late at p99, with {gap_ms:.1f} ms between tokens")
    if rate_rps is not None and (late := send_lateness_ns(requests)).size:
        mean_ms, gap_ms = float(late.mean()) / NS_PER_MS, 1000 / rate_rps
        ttft = column(chosen, "ttft_ns")
        ttft_ms = float(np.median(ttft)) / NS_PER_MS if ttft.size else 0.0
        if mean_ms > SEND_LATENESS_SHARE_OF_GAP * gap_ms and mean_ms > DISTURBS_SHARE * ttft_ms:
            signs.append(f"it sent {mean_ms:.1f} ms late on average, with {gap_ms:.1f} ms between arrivals")
    if not signs:
        return None
    if client.waited_pct is not None and client.waited_pct > BUSY_HOST_PCT:
        signs.append(f"other processes kept it waiting for a core {client.waited_pct:.0f} % of the time")
    return Reason(code="client_bound", detail="; ".join(signs))


def failures(requests: pa.Table) -> Reason | None:
    """Return what failed in the measuring phase, most frequent class first, or ``None``."""
    classes = Counter(
        str(row["error_class"])
        for row in requests.select(["phase", "status", "error_class"]).to_pylist()
        if row["phase"] == "measure" and row["status"] == "error"
    )
    if not classes:
        return None
    total = sum(1 for phase in requests["phase"].to_pylist() if phase == "measure")
    named = ", ".join(f"{count} {name}" for name, count in classes.most_common())
    return Reason(code="requests_failed", detail=f"{sum(classes.values())} of {total} requests: {named}")
