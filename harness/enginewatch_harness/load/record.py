"""From requests in flight to the table ``llm_requests``. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pyarrow as pa

from enginewatch_db.tables import LLM_REQUESTS
from enginewatch_harness.load.exchange import Exchange


def to_table(exchanges: Iterable[Exchange], t0_ns: int) -> pa.Table:
    """Return one row per request, ordered by their numbers.

    Latencies are of completed requests only: a request that failed has no latency, rather than a short one.

    Args:
        exchanges: Requests that ended.
        t0_ns: Origin of the run; the columns ``*_at_ns`` are relative to it.
    """
    rows = [_row(exchange, t0_ns) for exchange in sorted(exchanges, key=lambda exchange: exchange.idx)]
    return pa.Table.from_pylist(rows, schema=LLM_REQUESTS)


def _row(exchange: Exchange, t0_ns: int) -> dict[str, Any]:
    def since(at_ns: int | None) -> int | None:
        return None if at_ns is None else at_ns - t0_ns

    row: dict[str, Any] = {
        "request_idx": exchange.idx,
        "stream": exchange.stream,
        "phase": exchange.phase,
        "status": "ok" if exchange.ok else "error",
        "error_class": None if exchange.ok else exchange.error_class,
        "error": exchange.error,
        "http_status": exchange.http_status,
        "finish_reason": exchange.finish_reason,
        "new_connection": exchange.new_connection,
        "intended_at_ns": since(exchange.intended_ns),
        "sent_at_ns": since(exchange.sent_ns),
        "first_byte_at_ns": since(exchange.first_byte_ns),
        "connect_ns": exchange.connect_ns,
        "prompt_tokens": exchange.prompt_tokens,
        "output_tokens": exchange.output_tokens,
        "content_events": len(exchange.content_ns),
    }
    if exchange.ok:
        times = exchange.content_ns
        ttft_ns, e2e_ns = times[0] - exchange.start_ns, times[-1] - exchange.start_ns
        tokens = exchange.output_tokens if exchange.output_tokens is not None else len(times)
        row |= {
            "ttft_ns": ttft_ns,
            "e2e_ns": e2e_ns,
            "tpot_ns": round((e2e_ns - ttft_ns) / (tokens - 1)) if tokens > 1 else None,
            "itl_ns": [later - earlier for earlier, later in pairwise(times)],
        }
    return row
