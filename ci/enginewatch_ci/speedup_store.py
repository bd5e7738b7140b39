"""Compute and keep the speed-ups of stored sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_ci.speedup import SPEEDUP_METRICS, Measured, Speedup, speedups
from enginewatch_db.metrics import MetricValue

if TYPE_CHECKING:
    from enginewatch_db.connect import Reader


def keep_speedups(workspace: Path, session_ids: Sequence[str]) -> None:
    """Replace the stored speed-ups of some sessions, each in a transaction of its own.

    Raises:
        StorageError: There is no store, or it cannot be read or written.
    """
    # Imported here: judging two folders of bundles needs no DuckDB at all.
    from enginewatch_db import judgements
    from enginewatch_db.connect import Reader

    with Reader.open(workspace) as reader:
        found = {session_id: read_speedups(reader, session_id) for session_id in session_ids}
    for session_id, items in found.items():
        rows = [
            (item.case_key, item.reference_case_key, item.metric, item.speedup, item.ci_low, item.ci_high, item.n)
            for item in items
        ]
        judgements.store_speedups(workspace, session_id, rows)


def read_speedups(reader: Reader, session_id: str) -> tuple[Speedup, ...]:
    """Return the speed-ups of a session from its stored runs."""
    runs: dict[str, Measured] = {}
    reference: str | None = None
    for row in reader.rows("gate_speedups", session=session_id, metrics=list(SPEEDUP_METRICS)):
        reference = row["reference"]
        run = runs.setdefault(
            row["run_id"],
            Measured(case_key=row["case_key"], repeat=row["repeat"], identity=json.loads(row["identity"])),
        )
        run.metrics[row["metric"]] = MetricValue(
            metric=row["metric"], value=row["value"], ci_low=row["ci_low"], ci_high=row["ci_high"]
        )
    return speedups(list(runs.values()), reference)
