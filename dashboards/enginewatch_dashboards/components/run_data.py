"""What the sections of the Run page share: the run and its small tables, read once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from enginewatch_dashboards.components.links import link
from enginewatch_dashboards.data import Row, Store, as_json
from enginewatch_dashboards.state import SqlState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """One run.

    Attributes:
        store: Where it lies.
        run: Row of the query ``run``.
        metrics: Rows of the query ``run_metrics``.
        reasons: Rows of the query ``run_reasons``.
        phases: Rows of the query ``run_phases``.
        quality: What the collector knows about its own work.
        devices: Facts of the devices, one object each.
        provenance: Command, versions, notes.
    """

    store: Store
    run: Row
    metrics: list[Row]
    reasons: list[Row]
    phases: list[Row]
    quality: dict[str, Any]
    devices: list[dict[str, Any]]
    provenance: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.run["run_id"])

    def value(self, metric: str) -> float | None:
        """Return the value of a metric; ``None`` where the run has none."""
        return next((row["value"] for row in self.metrics if row["metric"] == metric), None)

    def device_facts(self, device: str) -> dict[str, Any]:
        """Return the facts of a device (``gpu0``); those of the only GPU when the names differ."""
        named = [facts for facts in self.devices if facts.get("device") == device]
        with_limit = [facts for facts in self.devices if facts.get("power_limit_mw")]
        found = named or with_limit[:1]
        return {**(self.quality.get("limits") or {}).get(device, {}), **(found[0] if found else {})}


def as_rows(data: RunData, table: str, order: str) -> None:
    """Draw a link to the rows behind a chart, as a table under SQL."""
    query = f"SELECT * EXCLUDE (run_id)\nFROM {table} WHERE run_id = '{data.run_id}'\nORDER BY {order}"
    link("as a table", SqlState(q=query))


def load(store: Store, run_id: str) -> RunData | None:
    """Return a run, or ``None`` where the store has no such run."""
    run = store.row("run", run=run_id)
    if run is None:
        return None
    return RunData(
        store=store,
        run=run,
        metrics=store.rows("run_metrics", run=run_id),
        reasons=store.rows("run_reasons", run=run_id),
        phases=store.rows("run_phases", run=run_id),
        quality=as_json(run["quality"]),
        devices=[facts for facts in json.loads(run["devices"] or "[]") if isinstance(facts, dict)],
        provenance=as_json(run["provenance"]),
    )
