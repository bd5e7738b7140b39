"""From requests that ended to the table ``llm_requests``, by way of columns that travel between processes. Pure.

The client processes use the first half, which needs neither NumPy nor Arrow; the second half runs once, when the
load is over.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enginewatch_harness.load.exchange import Exchange

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_FIELDS: dict[str, Callable[[Exchange], Any]] = {
    "start_ns": lambda exchange: exchange.start_ns,
    "end_ns": lambda exchange: exchange.end_ns,
    "stream": lambda exchange: exchange.stream,
    "phase": lambda exchange: exchange.phase,
    "error_class": lambda exchange: None if exchange.error_class is None else exchange.error_class.value,
    "error": lambda exchange: exchange.error,
    "http_status": lambda exchange: exchange.http_status,
    "finish_reason": lambda exchange: exchange.finish_reason,
    "new_connection": lambda exchange: exchange.new_connection,
    "intended_ns": lambda exchange: exchange.intended_ns,
    "sent_ns": lambda exchange: exchange.sent_ns,
    "first_byte_ns": lambda exchange: exchange.first_byte_ns,
    "visible_ns": lambda exchange: exchange.visible_ns if exchange.reasoned else None,
    "connect_ns": lambda exchange: exchange.connect_ns,
    "prompt_tokens": lambda exchange: exchange.prompt_tokens,
    "output_tokens": lambda exchange: exchange.output_tokens,
    "cached_prompt_tokens": lambda exchange: exchange.cached_tokens,
    "streamed": lambda exchange: exchange.streamed,
    "session": lambda exchange: exchange.planned.session,
    "turn": lambda exchange: exchange.planned.turn if exchange.planned.session is not None else None,
    "prefix_group": lambda exchange: exchange.planned.prefix_group,
    "asked_prompt_tokens": lambda exchange: exchange.planned.input_tokens,
    "asked_output_tokens": lambda exchange: exchange.planned.output_tokens,
    "text": lambda exchange: exchange.text,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Requests of one process, column by column.

    Attributes:
        process: Number of the client process.
        fields: Name → one value a request.
        events: Content events of each request.
        times_ns: When they arrived, request after request.
    """

    process: int
    fields: dict[str, list[Any]]
    events: list[int]
    times_ns: array[int]

    @classmethod
    def of(cls, exchanges: Iterable[Exchange], process: int) -> Columns:
        """Take the columns of requests that ended."""
        ended = list(exchanges)
        times_ns = array("q")
        for exchange in ended:
            times_ns.extend(exchange.content_ns)
        return cls(
            process=process,
            fields={name: [take(exchange) for exchange in ended] for name, take in _FIELDS.items()},
            events=[len(exchange.content_ns) for exchange in ended],
            times_ns=times_ns,
        )

    def pack(self) -> bytes:
        """Return them as bytes: a line of JSON, then the times."""
        head = json.dumps({"process": self.process, "fields": self.fields, "events": self.events})
        return head.encode() + b"\n" + self.times_ns.tobytes()

    @classmethod
    def unpack(cls, packed: bytes) -> Columns:
        """Return what ``pack`` was given.

        Raises:
            ValueError: The bytes are not whole.
        """
        head, _, times = packed.partition(b"\n")
        found = json.loads(head)
        times_ns = array("q")
        times_ns.frombytes(times)
        if len(times_ns) != sum(found["events"]):
            raise ValueError(f"{len(times_ns)} event times for {sum(found['events'])} events")
        return cls(process=found["process"], fields=found["fields"], events=found["events"], times_ns=times_ns)


def to_table(parts: Sequence[Columns], t0_ns: int, *, count_tokens: Callable[[str], int] | None = None) -> pa.Table:
    """Return one row per request of all processes, numbered in the order of their starts.

    Latencies are of completed requests only: a request that failed has no latency, rather than a short one. An
    answer that came whole has an end, but neither a first token nor gaps.

    Args:
        parts: The columns of each process.
        t0_ns: Origin of the run; the columns ``*_at_ns`` are relative to it.
        count_tokens: The model's tokenizer, where prompts were made with it.
    """
    import numpy as np
    import pyarrow as pa

    from enginewatch_db.tables import LLM_REQUESTS

    found = {name: [value for part in parts for value in part.fields[name]] for name in _FIELDS}
    size = len(found["phase"])
    process = np.repeat([part.process for part in parts], [len(part.events) for part in parts])
    events = np.array([count for part in parts for count in part.events], dtype=np.int64)
    ends = np.cumsum(events)
    times = np.concatenate([np.empty(0, np.int64), *(np.asarray(part.times_ns, np.int64) for part in parts)])
    start, end = (np.array(found[name], dtype=np.int64) for name in ("start_ns", "end_ns"))
    ok = np.array([value is None for value in found["error_class"]], dtype=bool)
    timed = ok & (events > 0) & np.array(found["streamed"], dtype=bool)
    first, last = start.copy(), np.where(ok, end, start)
    first[timed], last[timed] = times[(ends - events)[timed]], times[ends[timed] - 1]
    tokens = [
        count if count is not None else int(seen) for count, seen in zip(found["output_tokens"], events, strict=True)
    ]
    spaces = np.array(tokens, dtype=np.int64) - 1
    tpot = np.where(timed & (spaces > 0), np.rint((last - first) / np.maximum(spaces, 1)), 0).astype(np.int64)
    visible = [
        None if at is None or not good else at - begin
        for at, begin, good in zip(found["visible_ns"], start.tolist(), ok, strict=True)
    ]
    columns: dict[str, Any] = {
        "stream": found["stream"],
        "phase": found["phase"],
        "status": np.where(ok, "ok", "error"),
        "error_class": found["error_class"],
        "error": found["error"],
        "http_status": found["http_status"],
        "finish_reason": found["finish_reason"],
        "new_connection": found["new_connection"],
        "intended_at_ns": _since(found["intended_ns"], t0_ns),
        "sent_at_ns": _since(found["sent_ns"], t0_ns),
        "first_byte_at_ns": _since(found["first_byte_ns"], t0_ns),
        "ttft_ns": _masked(first - start, timed),
        "e2e_ns": _masked(last - start, ok),
        # All in one read: when the server made each token, nobody here can tell.
        "tpot_ns": _masked(tpot, timed & (spaces > 0) & (last > first)),
        "connect_ns": found["connect_ns"],
        "prompt_tokens": found["prompt_tokens"],
        "output_tokens": found["output_tokens"],
        "content_events": events,
        "itl_ns": _gaps(times, events, ends, timed),
        "process": process,
        "session": found["session"],
        "turn": found["turn"],
        "prefix_group": found["prefix_group"],
        "ttfo_ns": visible,
        "asked_prompt_tokens": found["asked_prompt_tokens"],
        "asked_output_tokens": found["asked_output_tokens"],
        # Exact where prompts are made to a length; what a later turn has of answers nobody has counted.
        "tokenizer_prompt_tokens": [
            tokens if count_tokens and not turn else None
            for tokens, turn in zip(found["asked_prompt_tokens"], found["turn"], strict=True)
        ],
        "tokenizer_output_tokens": [count_tokens(text) if count_tokens and text else None for text in found["text"]],
        "cached_prompt_tokens": found["cached_prompt_tokens"],
    }
    order = np.lexsort((process, start))
    del found, times
    arrays = [
        pa.array(np.arange(size), type=field.type)
        if field.name == "request_idx"
        else pa.array(columns.pop(field.name), type=field.type).take(pa.array(order))
        for field in LLM_REQUESTS
    ]
    return pa.Table.from_arrays(arrays, schema=LLM_REQUESTS)


def _since(times_ns: list[int | None], t0_ns: int) -> list[int | None]:
    return [None if at_ns is None else at_ns - t0_ns for at_ns in times_ns]


def _masked(values: NDArray[np.int64], known: NDArray[np.bool_]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, mask=~known)


def _gaps(
    times: NDArray[np.int64], events: NDArray[np.int64], ends: NDArray[np.int64], timed: NDArray[np.bool_]
) -> pa.Array:
    """Return the gaps between a request's events as a list a request; null where it has none to tell."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    inside = np.ones(max(times.size - 1, 0), dtype=bool)
    borders = ends[:-1]
    inside[borders[(borders > 0) & (borders < times.size)] - 1] = False
    gaps = np.diff(times)[inside]
    sizes = np.maximum(events - 1, 0)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(gaps, pa.int64()))
    return pc.if_else(pa.array(timed), lists, pa.nulls(len(lists), lists.type))
