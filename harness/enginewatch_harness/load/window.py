"""Which part of a load its rates are counted over, and what arrived in it. Pure.

The cut rule:

- Warm-up is cut from latencies and rates: a request that starts before the measuring phase has no latency that
  counts, and what it brings inside the window is what a server under this load brings.
- A load of a given duration is measured over its measuring phase: the load goes on until the last request of
  the window has ended, so that there is no ramp-down in it.
- A load of a given number of requests has a ramp-down: when no request is left to be sent, streams fall idle
  one after the other, and the rate over the whole load is too low (by 8 % at ten requests a stream whose lengths
  vary by half). Its window ends when the level falls for good. In the closed loop this is when the first stream
  ends its last request; in the open loop, and where no streams were recorded, the last send.
- A window cut to less than the mean time of one request would hold no whole request (fewer than about two
  requests a stream): then nothing is cut, and a note says so.

Tokens count where they *arrive*, whenever their request started: each content event at its own time, weighted
by the request's output tokens over its content events (1 where the server sends one token an event); prompt
tokens at the request's first content event, when its prefill was over. Where the gaps were not recorded, the
tokens after the first are spread evenly up to the last; where the answer came whole, all count at its end;
where no time is known, the requests of the measuring phase count. Only completed requests count, so a request
that failed halfway adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_harness.load.arrays import LoadArrays, load_arrays
from enginewatch_harness.load.spec import CLOSED, LoadSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

LEAST_E2E = 1.0
"""Mean E2E that must be left after the ramp-down is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What arrived inside the measuring window.

    Attributes:
        completed: Requests whose last content event did.
        output_tokens: Tokens of completed requests.
        input_tokens: Prompt tokens of completed requests; ``None`` where the server did not report them.
        window_s: Length of the window.
        output_known: Whether the output tokens of all of them are known; ``output_tokens`` is a part otherwise.
    """

    completed: int
    output_tokens: float
    input_tokens: int | None
    window_s: float
    output_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The window that rates are counted over.

    Attributes:
        begin_ns: Start, inclusive, relative to the run's origin.
        end_ns: End, exclusive.
        note: What a reader needs to know about it; ``None`` for nothing.
    """

    begin_ns: int
    end_ns: int
    note: str | None = None

    @property
    def length_ns(self) -> int:
        """How long it is; 0 where the load ended before it began."""
        return max(0, self.end_ns - self.begin_ns)


def cut(arrays: LoadArrays, spec: LoadSpec, window_ns: tuple[int, int]) -> Window:
    """Return the window that rates are counted over, by the rule of this module.

    Args:
        arrays: All requests of the load.
        spec: How they arrived.
        window_ns: The measuring phase, relative to the run's origin.
    """
    whole = Window(begin_ns=window_ns[0], end_ns=max(window_ns))
    if spec.requests is None or whole.length_ns == 0 or not (arrays.measured & arrays.timed).any():
        return whole
    falls = _level_falls_ns(arrays, spec)
    if falls is None or falls - whole.begin_ns < LEAST_E2E * _mean_e2e_ns(arrays):
        note = (
            f"rates include the ramp-down: {spec.requests} requests did not hold their level for the time of one "
            "request; send more of them, or give a duration"
        )
        return Window(begin_ns=whole.begin_ns, end_ns=whole.end_ns, note=note)
    return Window(begin_ns=whole.begin_ns, end_ns=min(falls, whole.end_ns))


def _level_falls_ns(arrays: LoadArrays, spec: LoadSpec) -> int | None:
    """Return when the level fell for good; ``None`` where it was never held."""
    due = arrays.measured & arrays.timed
    if spec.mode != CLOSED or (arrays.stream[due] < 0).any():
        return int(arrays.start_ns[due].max())
    # A stream may still be at a request of the warm-up when the last one is sent, so all phases count.
    streamed = arrays.timed & (arrays.stream >= 0)
    order = np.flatnonzero(streamed)[np.argsort(arrays.start_ns[streamed], kind="stable")]
    # Each process numbers its own streams.
    stream = arrays.process[order] * (int(arrays.stream.max()) + 1) + arrays.stream[order]
    last_of = np.full(int(stream.max()) + 1, -1)
    last_of[stream] = order
    last = last_of[last_of >= 0]
    if last.size < spec.concurrency:
        return None
    # When a failed request ended is not recorded, so a stream that ends with one tells nothing.
    ended = last[~np.isnan(arrays.e2e_ns[last])]
    if not ended.size:
        return int(arrays.start_ns[due].max())
    return int((arrays.start_ns[ended] + arrays.e2e_ns[ended].astype(np.int64)).min()) + 1


def _mean_e2e_ns(arrays: LoadArrays) -> float:
    times = arrays.e2e_ns[arrays.chosen]
    times = times[~np.isnan(times)]
    return float(times.mean()) if times.size else 0.0


def totals(requests: pa.Table, window_ns: tuple[int, int]) -> Totals:
    """Count what arrived inside the window, by the rule of this module.

    Args:
        requests: The whole table, all phases.
        window_ns: Start (inclusive) and end (exclusive), relative to the run's origin.
    """
    return count_arrivals(load_arrays(requests), window_ns)


def count_arrivals(arrays: LoadArrays, window_ns: tuple[int, int]) -> Totals:
    """Count what arrived inside the window; as ``totals``, from arrays."""
    ok = arrays.ok
    share = events_inside(arrays, window_ns)
    ended = completed_inside(arrays, window_ns)
    began = ok & np.where(arrays.timed, _inside(_first_ns(arrays), window_ns), arrays.measured)
    tokens = arrays.output_tokens
    unknown = ok & np.isnan(tokens) & (share > 0)
    prompts = arrays.prompt_tokens[began]
    return Totals(
        completed=int(ended.sum()),
        output_tokens=float((share * np.nan_to_num(tokens))[ok].sum()),
        input_tokens=None if np.isnan(prompts).any() else int(prompts.sum()),
        window_s=max(0, window_ns[1] - window_ns[0]) / 1e9,
        output_known=not unknown.any(),
    )


def completed_inside(arrays: LoadArrays, window_ns: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which completed requests had their last content event inside the window."""
    ends = arrays.start_ns + np.nan_to_num(arrays.e2e_ns).astype(np.int64)
    found: NDArray[np.bool_] = arrays.ok & np.where(arrays.timed, _inside(ends, window_ns), arrays.measured)
    return found


def events_inside(arrays: LoadArrays, window_ns: tuple[int, int]) -> NDArray[np.float64]:
    """Return which share of each request's output came inside the window; 0 for requests that failed."""
    begin, end = window_ns
    first = _first_ns(arrays)
    streamed = arrays.ok & arrays.timed & ~np.isnan(arrays.ttft_ns)
    share = np.where(arrays.timed, _inside(first, window_ns), arrays.measured).astype(np.float64)
    share[~arrays.ok] = 0.0
    gapped = streamed & arrays.has_gaps
    if gapped.any():
        events = np.diff(arrays.offsets) + 1
        running = np.cumsum(arrays.gaps_ns, dtype=np.int64)
        before_end, before_begin = (_events_before(arrays, running, first, at) for at in (end, begin))
        share[gapped] = (np.maximum(0, before_end - before_begin) / events)[gapped]
    even = streamed & ~arrays.has_gaps
    if even.any():
        share[even] = _evenly(arrays, first, window_ns)[even]
    return share


def _first_ns(arrays: LoadArrays) -> NDArray[np.int64]:
    """Return when the first content came; the whole answer, where it did not stream."""
    after = np.where(np.isnan(arrays.ttft_ns), arrays.e2e_ns, arrays.ttft_ns)
    return arrays.start_ns + np.nan_to_num(after).astype(np.int64)


def _inside(at_ns: NDArray[np.int64], window_ns: tuple[int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (at_ns >= window_ns[0]) & (at_ns < window_ns[1])
    return found


def _events_before(
    arrays: LoadArrays, running: NDArray[np.int64], first: NDArray[np.int64], at_ns: int
) -> NDArray[np.int64]:
    """Return how many content events of each request came before ``at_ns``.

    Gaps are never negative, so their running sum is in order, and one search in it serves all requests.
    """
    begins, ends = arrays.offsets[:-1], arrays.offsets[1:]
    base = np.where(begins > 0, running[begins - 1], 0) if running.size else np.zeros_like(first)
    reached = np.searchsorted(running, at_ns - first + base, side="left")
    later: NDArray[np.int64] = np.clip(reached, begins, ends) - begins
    return np.where(first < at_ns, later + 1, 0)


def _evenly(arrays: LoadArrays, first: NDArray[np.int64], window_ns: tuple[int, int]) -> NDArray[np.float64]:
    """Return the share inside the window of tokens spread evenly from the first content to the last."""
    tokens = np.maximum(1.0, np.nan_to_num(arrays.output_tokens, nan=2.0))
    step = np.nan_to_num(arrays.e2e_ns - arrays.ttft_ns) / np.maximum(1.0, tokens - 1)

    def before(at_ns: int) -> NDArray[np.float64]:
        since = at_ns - first
        after_first = np.where(step > 0, np.ceil(since / np.where(step > 0, step, 1.0)), tokens)
        return np.where(since > 0, np.clip(after_first, 1, tokens), 0.0)

    return np.maximum(0.0, before(window_ns[1]) - before(window_ns[0])) / tokens
