"""What the sections of the Engine page share: an engine in one of its cases, with its layers, read once."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from enginewatch_ci.layers.waterfall import LayerDiff, diff_layers
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


KEPT = 64
"""Profiles and comparisons that are kept: of large engines they take longer than all else on the page."""


@st.cache_resource(show_spinner=False, max_entries=KEPT)
def _profile(version: str, run: str, device: str | None, total_ns: int | None, _store: Store) -> Profile | None:
    rows = _store.rows("run_layers", run=run)
    return profile(rows, device, total_ns) if rows else None


def layers_of(store: Store, run: str | None, device: str | None, measured_ms: float | None) -> Profile | None:
    """Return the layers of a run; ``None`` where it has none.

    Args:
        store: Where the run lies.
        run: Its id.
        device: Product that it ran on.
        measured_ms: What one inference took without a profiler, for the profiler's own cost.
    """
    total_ns = None if measured_ms is None else round(measured_ms * 1e6)
    return None if run is None else _profile(store.version, run, device, total_ns, store)


@st.cache_resource(show_spinner=False, max_entries=KEPT)
def _compared(
    version: str, runs: tuple[str, str], totals: tuple[int | None, int | None], _base: Profile, _cand: Profile
) -> LayerDiff:
    return diff_layers(_base.profiled, _cand.profiled, base_total_ns=totals[0], cand_total_ns=totals[1])


def compared(base: EngineData, cand: EngineData, totals: tuple[int | None, int | None]) -> LayerDiff | None:
    """Return what leads from one engine's time to another's; ``None`` where the layers of one have no time.

    Args:
        base: The baseline.
        cand: The candidate.
        totals: What one inference of each took without a profiler (ns).
    """
    one, other = base.profile, cand.profile
    if one is None or other is None or not one.timed or not other.timed:
        return None
    runs = (str(base.case["layers_run"]), str(cand.case["layers_run"]))
    return _compared(base.store.version, runs, totals, one, other)


def load(store: Store, engine: Engine, case: Row) -> EngineData:
    """Return an engine with its layers in a case."""
    totals = (
        store.shared("engines_total", engine=engine.sha256, case=case["case_key"], session=case["layers_session"])
        if case["layers_run"] is not None
        else []
    )
    measured = totals[0] if totals else {"gpu_ms": None, "latency_ms": None}
    found = layers_of(store, case["layers_run"], case["device"], measured["gpu_ms"] or measured["latency_ms"])
    return EngineData(store=store, engine=engine, case=case, profile=found, measured=measured)
