"""The table ``llm_requests`` as arrays, made once, so that no metric walks over requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadArrays:
    """One entry a request; NaN where the table has null, for use inside this package only.

    Attributes:
        measured: Started in the measuring phase.
        ok: Completed.
        timed: Its start is known; a tool that keeps no absolute times makes requests without.
        start_ns: From when its latencies count, relative to the run's origin; 0 where unknown.
        sent_ns: When its bytes went to the socket.
        intended_ns: When it was due; NaN in the closed loop.
        ttft_ns: Time to first token.
        ttfo_ns: Time to the first content that is not reasoning.
        tpot_ns: Time per output token.
        e2e_ns: Start to the last content.
        output_tokens: By the server's usage; else by the tokenizer; else its content events, where it streamed.
        prompt_tokens: By the server's usage; else by the tokenizer.
        usage_tokens: Output tokens by the server's usage alone.
        tokenizer_tokens: Output tokens by the tokenizer alone.
        events: Content events.
        stream: Stream of the closed loop; -1 where there is none.
        process: Client process; 0 where it was not recorded.
        gaps_ns: Gaps between content events of all requests, one after the other.
        offsets: Where each request's gaps begin in ``gaps_ns``, shape (n + 1,).
        has_gaps: Its gaps were recorded, be they none.
    """

    measured: NDArray[np.bool_]
    ok: NDArray[np.bool_]
    timed: NDArray[np.bool_]
    start_ns: NDArray[np.int64]
    sent_ns: NDArray[np.float64]
    intended_ns: NDArray[np.float64]
    ttft_ns: NDArray[np.float64]
    ttfo_ns: NDArray[np.float64]
    tpot_ns: NDArray[np.float64]
    e2e_ns: NDArray[np.float64]
    output_tokens: NDArray[np.float64]
    prompt_tokens: NDArray[np.float64]
    usage_tokens: NDArray[np.float64]
    tokenizer_tokens: NDArray[np.float64]
    events: NDArray[np.float64]
    stream: NDArray[np.int64]
    process: NDArray[np.int64]
    gaps_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    has_gaps: NDArray[np.bool_]

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """The requests whose latencies count: completed, and started in the measuring phase."""
        return self.ok & self.measured

    def gaps_of(self, requests: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return a copy of the gaps of some requests."""
        return self.gaps_ns[np.repeat(requests, np.diff(self.offsets))]

    def largest_gap_ns(self) -> NDArray[np.float64]:
        """Return each request's largest gap; 0 where it had a single content event, NaN where nobody can tell."""
        largest = np.where(self.has_gaps, 0.0, np.nan)
        some = np.diff(self.offsets) > 0
        if some.any():
            largest[some] = np.maximum.reduceat(self.gaps_ns, self.offsets[:-1][some])
        # Several events and no time between them came in one read: nobody here can tell how far apart they were.
        largest[some & (largest == 0)] = np.nan
        return largest


def column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a numeric column with NaN for null; for use inside this package only, never as a result.

    Whole numbers stay exact up to 2**53: 104 days in ns.
    """
    found: NDArray[np.float64] = table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def start_ns(requests: pa.Table) -> NDArray[np.int64]:
    """Return from when each request's latencies count, relative to the run's origin.

    Raises:
        ValueError: A request has neither an intended nor a real time of sending.
    """
    began = _starts(requests)
    if began.null_count:
        raise ValueError(f"{began.null_count} requests have no start")
    found: NDArray[np.int64] = began.to_numpy().astype(np.int64)
    return found


def _starts(requests: pa.Table) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    connecting = pc.fill_null(requests["connect_ns"], 0)
    return pc.coalesce(requests["intended_at_ns"], pc.subtract(requests["sent_at_ns"], connecting))


def load_arrays(requests: pa.Table) -> LoadArrays:
    """Return the columns of ``requests`` (schema ``llm_requests``) as arrays.

    The gaps are a view of the table's memory where it is in one piece.
    """
    import pyarrow.compute as pc

    def flags(name: str, value: str) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = pc.equal(requests[name], value).to_numpy().astype(np.bool_)
        return found

    def whole(name: str, null: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = pc.fill_null(requests[name], null).to_numpy().astype(np.int64)
        return found

    began = _starts(requests)
    lists = requests["itl_ns"]
    lists = lists.chunk(0) if lists.num_chunks == 1 else lists.combine_chunks()
    gaps = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    usage, counted = column(requests, "output_tokens"), column(requests, "tokenizer_output_tokens")
    prompts, events = column(requests, "prompt_tokens"), column(requests, "content_events")
    ttft = column(requests, "ttft_ns")
    return LoadArrays(
        measured=flags("phase", "measure"),
        ok=flags("status", "ok"),
        timed=pc.is_valid(began).to_numpy().astype(np.bool_),
        start_ns=pc.fill_null(began, 0).to_numpy().astype(np.int64),
        sent_ns=column(requests, "sent_at_ns"),
        intended_ns=column(requests, "intended_at_ns"),
        ttft_ns=ttft,
        ttfo_ns=column(requests, "ttfo_ns"),
        tpot_ns=column(requests, "tpot_ns"),
        e2e_ns=column(requests, "e2e_ns"),
        output_tokens=_first_known(usage, counted, np.where(np.isnan(ttft), np.nan, events)),
        prompt_tokens=_first_known(prompts, column(requests, "tokenizer_prompt_tokens")),
        usage_tokens=usage,
        tokenizer_tokens=counted,
        events=events,
        stream=whole("stream", -1),
        process=whole("process", 0),
        gaps_ns=gaps,
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        has_gaps=pc.is_valid(requests["itl_ns"]).to_numpy().astype(np.bool_),
    )


def _first_known(*choices: NDArray[np.float64]) -> NDArray[np.float64]:
    found = choices[0]
    for other in choices[1:]:
        found = np.where(np.isnan(found), other, found)
    return found
