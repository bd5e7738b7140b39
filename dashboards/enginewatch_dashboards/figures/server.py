"""What a server said about itself, beside what its client saw: panels above those of the GPU, on one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_dashboards.figures.telemetry import Above, Line, Panel, Readings, split
from enginewatch_dashboards.theme import BLUE, CRIMSON, GREY, ORANGE, PURPLE, TEAL

Columns = Mapping[str, NDArray[Any]]

CLIENT, SERVER = "client", "server"
BUCKETS = 400
"""Buckets that the queries ``in_flight`` and ``server_samples`` are asked for: at most four points each."""
PAD_SHARE = 0.02
"""Room beside the phases that are shown."""
LOADED = ("warmup", "measure", "drain")
"""Phases with requests; before them the server starts, which may take minutes."""
RARE = ("preemptions_per_s", "queue_ms")
"""Readings that are worth a panel only where they are not all zero."""
PANELS = (
    Panel(
        title="requests",
        lines=(
            Line(column="in_flight", name="in flight (client)", colour=GREY, device=CLIENT, steps=True),
            Line(column="requests_running", name="running (server)", colour=BLUE, device=SERVER),
            Line(column="requests_waiting", name="waiting (server)", colour=ORANGE, device=SERVER),
        ),
        from_zero=True,
    ),
    Panel(
        title="%",
        lines=(
            Line(column="kv_cache_used_pct", name="KV cache in use", colour=PURPLE, device=SERVER),
            Line(column="prefix_hit_pct", name="prompt tokens from the prefix cache", colour=TEAL, dash="dot",
                 device=SERVER),
        ),
        is_share=True,
    ),
    Panel(
        title="1/s",
        lines=(Line(column="preemptions_per_s", name="preemptions", colour=CRIMSON, device=SERVER),),
        from_zero=True,
    ),
    Panel(
        title="ms",
        lines=(Line(column="queue_ms", name="mean time in the server's queue", colour=ORANGE, device=SERVER),),
        from_zero=True,
    ),
)  # fmt: skip
NAMES = {
    "requests_running": "running requests",
    "requests_waiting": "waiting requests",
    "kv_cache_used_pct": "KV-cache use",
    "prefix_hit_pct": "prefix-cache hits",
    "preemptions_per_s": "preemptions",
}
"""What one would like to know of a server, in words."""


def shown_range(phases: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Return the part of a run in which requests were sent, in seconds, with a little room."""
    loaded = [phase for phase in phases if phase["phase"] in LOADED]
    if not loaded:
        return None
    low, high = min(phase["start_s"] for phase in loaded), max(phase["end_s"] for phase in loaded)
    pad = PAD_SHARE * (high - low)
    return low - pad, high + pad


def above(
    server: Columns, in_flight: Columns, phases: Sequence[Mapping[str, Any]], *, device: str | None
) -> Above | None:
    """Return the panels of a load run, or ``None`` where neither client nor server told anything.

    Args:
        server: Columns of the query ``server_samples``.
        in_flight: Columns of the query ``in_flight``.
        phases: ``phase``, ``start_s``, ``end_s``.
        device: What is drawn below them, for the heading.
    """
    readings = dict(_server_readings(server))
    if in_flight["t_s"].size:
        t, value = (np.asarray(in_flight[name], dtype=np.float64) for name in ("t_s", "value"))
        readings[CLIENT, "in_flight"] = (t, value)
    if not readings:
        return None
    told = "Load, server and " if any(of == SERVER for of, _ in readings) else "Load and "
    return Above(title=f"{told}{device or 'host'}", panels=PANELS, readings=readings, x_range=shown_range(phases))


def _server_readings(server: Columns) -> Readings:
    # Where several sources were scraped, the first one that has a reading tells it.
    found: dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for (_, name), (t, value) in split(server).items():
        if name not in RARE or value.any():
            found.setdefault((SERVER, name), (t, value))
    return found


def sources(server: Columns) -> list[str]:
    """Return which servers were scraped."""
    return sorted({str(source) for source in np.unique(server["device"])}) if server["device"].size else []


def untold(server: Columns) -> list[str]:
    """Return in words what a scraped server does not report."""
    told = {str(name) for name in np.unique(server["name"])} if server["name"].size else set()
    return [words for name, words in NAMES.items() if name not in told]
