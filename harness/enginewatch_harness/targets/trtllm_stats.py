"""The iteration statistics of ``trtllm-serve``: JSON that is handed out once, to whoever asks first. Pure.

Each answer of ``/metrics`` is a list with one object per iteration of the scheduler since the last answer
(TensorRT-LLM ``serve/openai_server.py``, statistics of its executor). Their ``timestamp`` is the server's wall clock,
so only differences of it are used: its offset to our monotonic clock is the one that lets each iteration end before
it was read, and the last of some answer right then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Iterations = tuple[Mapping[str, Any], ...]
NS_PER_MS = 1e6
TIMESTAMPS = ("%m-%d-%Y %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f", "%m-%d-%Y %H:%M:%S")
"""How the versions of TensorRT-LLM have written the time of an iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One answer.

    Attributes:
        t_ns: When it was read, monotonic.
        iterations: What it held, oldest first.
    """

    t_ns: int
    iterations: Iterations


def parse(text: str) -> Iterations | None:
    """Return the iterations of one answer; ``None`` where the text is no such list."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        return None
    return tuple(item for item in found if _number(item, "iter") is not None)


def rows(answers: Sequence[Drained]) -> list[dict[str, float]]:
    """Return one row of ``server_samples`` per iteration, with monotonic ``t_ns``; counters run from the first."""
    found = []
    queue_ns = queued = done = 0.0
    for t_ns, item in _timed(answers):
        latency_ms = _number(item, "iterLatencyMS")
        queue_ns += (_number(item, "newActiveRequestsQueueLatencyMS") or 0.0) * NS_PER_MS
        queued += _number(item, "numNewActiveRequests") or 0.0
        done += _number(item, "numCompletedRequests") or 0.0
        row: dict[str, float | None] = {
            "t_ns": float(t_ns),
            "requests_running": _number(item, "numActiveRequests"),
            "requests_waiting": _number(item, "numQueuedRequests"),
            "iteration_ns": None if latency_ms is None else latency_ms * NS_PER_MS,
            "queue_time_ns": queue_ns,
            "queue_count": queued,
            "requests_done": done,
            **_cache(item.get("kvCacheStats")),
            **_batch(item.get("inflightBatchingStats")),
        }
        found.append({name: value for name, value in row.items() if value is not None})
    return found


def _cache(stats: object) -> dict[str, float | None]:
    if not isinstance(stats, Mapping):
        return {}
    used, most = _number(stats, "usedNumBlocks"), _number(stats, "maxNumBlocks")
    reused, missed, size = (_number(stats, name) for name in ("reusedBlocks", "missedBlocks", "tokensPerBlock"))
    return {
        "kv_cache_used_pct": 100 * used / most if used is not None and most else None,
        **_prefix(reused, missed, size),
    }


def _prefix(reused: float | None, missed: float | None, size: float | None) -> dict[str, float | None]:
    if reused is None or missed is None or size is None:
        return {}
    return {"prefix_hit_tokens": reused * size, "prefix_query_tokens": (reused + missed) * size}


def _batch(stats: object) -> dict[str, float | None]:
    return {"batch_size": _number(stats, "numScheduledRequests")} if isinstance(stats, Mapping) else {}


_MOST = 1e12
"""No count, and no time in ms, of a server is larger; beyond it, nanoseconds would overflow."""


def _number(item: Mapping[str, Any], name: str) -> float | None:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        return None  # NaN fails the comparison too
    return float(value)


def _wall_ns(item: Mapping[str, Any]) -> int | None:
    text = item.get("timestamp")
    if not isinstance(text, str):
        return None
    for layout in TIMESTAMPS:
        try:
            found = datetime.strptime(text, layout).replace(tzinfo=UTC)
        except ValueError:
            continue
        since = found - datetime(1970, 1, 1, tzinfo=UTC)
        return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    return None


def _timed(answers: Sequence[Drained]) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """Return the iterations with the monotonic time of their end, oldest first."""
    lags = [
        answer.t_ns - wall
        for answer in answers
        if answer.iterations and (wall := _wall_ns(answer.iterations[-1])) is not None
    ]
    for answer in answers:
        back_ns = 0.0
        placed = []
        for item in reversed(answer.iterations):
            wall = _wall_ns(item)
            # Without a time of its own, an iteration ended when the one after it began.
            placed.append((wall + min(lags) if wall is not None and lags else answer.t_ns - round(back_ns), item))
            back_ns += (_number(item, "iterLatencyMS") or 0.0) * NS_PER_MS
        yield from reversed(placed)
