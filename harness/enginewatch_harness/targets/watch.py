"""What the server told while a load ran on it: the part that every backend with a server shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Phase
from enginewatch_harness.targets.samples import Seen, to_table
from enginewatch_harness.targets.summary import summarise_server

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(slots=True, kw_only=True)
class Phases:
    """Notes when each phase began, and passes it on."""

    enter: Callable[[Phase], None]
    began: list[tuple[Phase, int]] = field(default_factory=list)

    def on_phase(self, phase: Phase) -> None:
        """Note a phase that begins now."""
        self.began.append((phase, time.monotonic_ns()))
        self.enter(phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSide:
    """What the server told about the run.

    Attributes:
        tables: ``server_samples``, or nothing where there are none.
        metrics: All ``server_*`` metrics; absent ones with their reason.
        notes: What a reader needs to know.
    """

    tables: dict[str, pa.Table]
    metrics: list[MetricValue]
    notes: tuple[str, ...]


def server_side(
    seen: Seen, *, t0_ns: int, began: Sequence[tuple[Phase, int]], window_ns: tuple[int, int]
) -> ServerSide:
    """Return the server's part of a run.

    Args:
        seen: What the scrapes held.
        t0_ns: Origin of the run.
        began: When each phase began, monotonic; the measuring phase is set to the load's own window.
        window_ns: Start and end of the measuring phase, monotonic.
    """
    exact = {Phase.MEASURE: window_ns[0], Phase.DRAIN: window_ns[1]}
    phases = [(phase, exact.get(phase, at_ns)) for phase, at_ns in began]
    table = to_table(seen, t0_ns=t0_ns, phases=phases) if seen.rows else None
    metrics = summarise_server(table, (window_ns[0] - t0_ns, window_ns[1] - t0_ns), absent=seen.absent)
    return ServerSide(tables={} if table is None else {"server_samples": table}, metrics=metrics, notes=seen.notes)


def per_gpu(metrics: Sequence[MetricValue], gpus: int | None) -> list[MetricValue]:
    """Return the metrics with the output rate divided by the GPUs, where their number is known."""
    rate = next((item for item in metrics if item.metric == "output_tokens_s"), None)
    if gpus is None or rate is None or rate.value is None:
        return list(metrics)
    known = MetricValue(metric="output_tokens_s_per_gpu", value=rate.value / gpus, n=rate.n)
    return [*(item for item in metrics if item.metric != known.metric), known]
