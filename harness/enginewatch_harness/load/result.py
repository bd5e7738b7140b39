"""What a load brought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enginewatch_db.metrics import MetricValue
from enginewatch_db.validity import Reason

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a load brought.

    Attributes:
        requests: All requests, schema ``llm_requests``; times relative to ``t0_ns``.
        window_ns: Start and end of the measuring phase on the monotonic clock.
        metrics: Every LLM metric; absent ones with their reason.
        reasons: Validity reasons.
        counts: Totals: ``requests``, ``completed`` and ``output_tokens`` of the window, ``prompt_words``, ...
        notes: What a reader of the numbers needs to know.
    """

    requests: pa.Table
    window_ns: tuple[int, int]
    metrics: tuple[MetricValue, ...]
    reasons: tuple[Reason, ...]
    counts: dict[str, float]
    notes: tuple[str, ...] = ()
