"""Rows of ``llm_requests`` from what a tool kept of each request. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginewatch_db.model import Json

if TYPE_CHECKING:
    import pyarrow as pa

ERROR_TEXT_LIMIT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; times in ns, those named ``_at_`` on the tool's clock.

    Attributes:
        sent_at_ns: When it was sent; ``None`` where the tool does not keep it.
        intended_at_ns: When it was due, in an open loop; latencies then count from it.
        phase: ``warmup``, ``measure`` or ``drain`` (cut off when the load ended).
        first_ns: From ``sent_at_ns`` to the first content; ``None`` for a request that failed.
        last_ns: From ``sent_at_ns`` to the last content.
        gaps_ns: Gaps between content events; ``None`` where the tool keeps none.
        first_output_ns: From ``sent_at_ns`` to the first content that is not reasoning.
    """

    sent_at_ns: int | None
    intended_at_ns: int | None = None
    phase: str = "measure"
    error_class: str | None = None
    error: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    first_output_ns: int | None = None
    gaps_ns: Sequence[int] | None = None
    content_events: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    tokenizer_prompt_tokens: int | None = None
    tokenizer_output_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    new_connection: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error_class is None


def origin_ns(requests: Iterable[Request]) -> int:
    """Return the earliest time of the measured requests on the tool's clock: the run's origin; 0 without any."""
    times = [
        at
        for request in requests
        if request.phase == "measure"
        for at in (request.sent_at_ns, request.intended_at_ns)
        if at is not None
    ]
    return min(times, default=0)


def end_ns(requests: Iterable[Request]) -> int:
    """Return the time of the last content of the measured requests on the tool's clock; 0 without any."""
    ends = [
        request.sent_at_ns + request.last_ns
        for request in requests
        if request.phase == "measure" and request.sent_at_ns is not None and request.last_ns is not None
    ]
    return max(ends, default=0)


def to_table(requests: Sequence[Request], origin: int) -> pa.Table:
    """Return the table, in the order given.

    Args:
        requests: All requests.
        origin: The run's origin on the tool's clock.
    """
    import pyarrow as pa

    from enginewatch_db.tables import LLM_REQUESTS

    rows = [_row(number, request, origin) for number, request in enumerate(requests)]
    return pa.Table.from_pylist(rows, schema=LLM_REQUESTS)


def _row(number: int, request: Request, origin: int) -> Json:
    row: Json = {
        "request_idx": number,
        "phase": request.phase,
        "status": "ok" if request.ok else "error",
        "error_class": request.error_class,
        "error": request.error[:ERROR_TEXT_LIMIT] if request.error else None,
        "http_status": request.http_status,
        "finish_reason": request.finish_reason,
        "new_connection": request.new_connection,
        "intended_at_ns": None if request.intended_at_ns is None else request.intended_at_ns - origin,
        "sent_at_ns": None if request.sent_at_ns is None else request.sent_at_ns - origin,
        "prompt_tokens": request.prompt_tokens,
        "output_tokens": request.output_tokens,
        "tokenizer_prompt_tokens": request.tokenizer_prompt_tokens,
        "tokenizer_output_tokens": request.tokenizer_output_tokens,
        "cached_prompt_tokens": request.cached_prompt_tokens,
        "content_events": request.content_events,
    }
    return row | _latencies(request) if request.ok else row


def _latencies(request: Request) -> Json:
    """Latencies of a completed request, from when it was due where that is known."""
    late = 0
    if request.intended_at_ns is not None and request.sent_at_ns is not None:
        late = request.sent_at_ns - request.intended_at_ns

    def since_due(ns: int | None) -> int | None:
        return None if ns is None else ns + late

    decode = None
    if request.first_ns is not None and request.last_ns is not None:
        decode = max(request.last_ns - request.first_ns, 0)
    # As for our own loads: the server's count, else the tokenizer's.
    tokens = request.output_tokens if request.output_tokens is not None else request.tokenizer_output_tokens
    return {
        "ttft_ns": since_due(request.first_ns),
        "e2e_ns": since_due(request.last_ns),
        "ttfo_ns": since_due(request.first_output_ns),
        "tpot_ns": round(decode / (tokens - 1)) if decode is not None and tokens is not None and tokens > 1 else None,
        "itl_ns": None if request.gaps_ns is None else list(request.gaps_ns),
    }
