"""What the sections of the Engine page share: an engine in one of its cases, with its layers, read once."""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_dashboards.data import Row, Store
from enginewatch_dashboards.engines import Engine
from enginewatch_dashboards.layer_rows import Profile, profile


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineData:
    """One engine in one case.

    Attributes:
        store: Where it lies.
        engine: The engine.
        case: Row of the query ``engines``.
        profile: Its layers in that case, of the newest run that has any; ``None`` where none has.
        measured: What one inference took without a profiler: ``gpu_ms`` and ``latency_ms``, each may be absent.
    """

    store: Store
    engine: Engine
    case: Row
    profile: Profile | None
    measured: Row


def load(store: Store, engine: Engine, case: Row) -> EngineData:
    """Return an engine with its layers in a case."""
    rows = store.rows("run_layers", run=case["layers_run"]) if case["layers_run"] else []
    totals = (
        store.shared("engines_total", engine=engine.sha256, case=case["case_key"], session=case["layers_session"])
        if rows
        else []
    )
    return EngineData(
        store=store,
        engine=engine,
        case=case,
        profile=profile(rows, case["device"]) if rows else None,
        measured=totals[0] if totals else {"gpu_ms": None, "latency_ms": None},
    )
