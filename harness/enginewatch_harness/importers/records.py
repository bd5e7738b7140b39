"""From what an importer found to a run of our own schema. Pure."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from enginewatch_db import ids
from enginewatch_db.model import Json, Phase, PhaseMark, RunRecord
from enginewatch_harness.assemble import Stamp, finished_run
from enginewatch_harness.backends.base import Availability, Measurement
from enginewatch_harness.importers.facts import Document, ImportedRun
from enginewatch_harness.importers.metrics import judge_import
from enginewatch_harness.load.judgement import Judgement
from enginewatch_harness.load.spec import CLOSED
from enginewatch_harness.matrix import Case
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared

if TYPE_CHECKING:
    import pyarrow as pa

PLAN_PREFIX = "import-"
UNKNOWN = "unknown"
HOST = "another tool's host"
"""Nothing in these files names the host that measured, and it is rarely the one that imports."""

IMPORTER = 1
"""Raise it when the same file is to give another run: ids change with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user says about imported runs.

    Attributes:
        workload: Name of the workload; ``None`` takes the model's name.
        device: Device product; ``None`` takes what the file says.
        label: Label of the session.
    """

    workload: str | None = None
    device: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An imported run with its place among the others of one import."""

    document: Document
    run: ImportedRun
    repeat: int
    order_idx: int
    session_id: str
    session_started_at: str


def run_id(document: Document, run: ImportedRun) -> str:
    """Return the id of a run: from the file's content and the place in it, so that a second import is the same run."""
    return ids.content_id({"sha256": document.sha256, "place": run.place}, f"import/v{IMPORTER}")


def workload_of(run: ImportedRun, choices: Choices) -> str:
    """Return the name of the workload: the user's, or the last part of the model's name."""
    return _plain(choices.workload or run.model)


def _plain(name: str) -> str:
    """Return the last part of a model's name, in the letters that a plan's names may have."""
    last = name.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._") or UNKNOWN


def level(run: ImportedRun) -> str:
    """Return how loaded the server was, in short: ``c16``, ``poisson20rps``."""
    if run.load.mode == CLOSED or run.load.rate_rps is None:
        return f"c{run.load.concurrency}" if run.load.mode == CLOSED else run.load.mode
    return f"{run.load.mode}{run.load.rate_rps:g}rps"


def case_key(run: ImportedRun, choices: Choices) -> str:
    """Return the key of the case, as for runs of our own, with the tool in it: its definitions are not ours."""
    return f"{workload_of(run, choices)}/{run.server}/{run.precision or UNKNOWN}/{run.tool}/{level(run)}"


def started_at(document: Document, run: ImportedRun) -> str:
    """Return when the load began, ISO 8601 UTC; when the file was written, where it names no time."""
    return document.modified_at if run.started_unix_ns is None else iso(run.started_unix_ns)


def iso(unix_ns: int) -> str:
    """Return a wall time as ISO 8601 in UTC, to the microsecond; times past the year 9999 end there."""
    seconds, rest = divmod(min(unix_ns, 253_402_300_799 * 1_000_000_000), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000).isoformat()


def to_record(placed: Placed, choices: Choices) -> tuple[RunRecord, dict[str, pa.Table], Judgement]:
    """Return the record of an imported run, its tables, and how it was judged."""
    document, run = placed.document, placed.run
    judged = judge_import(run)
    prepared = _prepared(run, choices)
    begin, end = run.window_ns
    record, tables = finished_run(
        _stamp(placed, choices),
        prepared,
        _measurement(run, judged, prepared.device),
        ended_at=_ended_at(document, run),
        t0_ns=0,
        phases=(*_warmup(run), PhaseMark(name=Phase.MEASURE, start_ns=begin, end_ns=end)),
        engine=None,
        sentinel_ns=(),
        telemetry=None,
        preflight=(),
    )
    # The load's length is what it took, not what was asked for.
    options = {key: value for key, value in record.identity.options.items() if key not in ("duration_ms", "warmup_ms")}
    identity = dataclasses.replace(record.identity, options=options)
    provenance = {**record.provenance, "imported": _origin(document, run), "details": {run.tool: _finite(run.own)}}
    return dataclasses.replace(record, identity=identity, provenance=provenance), tables, judged


def _stamp(placed: Placed, choices: Choices) -> Stamp:
    document, run = placed.document, placed.run
    versions = {run.tool: run.tool_version, **run.versions}
    if run.server_version is not None:
        versions[run.server] = run.server_version
    return Stamp(
        run_id=run_id(document, run),
        session_id=placed.session_id,
        plan_name=PLAN_PREFIX + workload_of(run, choices),
        repeat=placed.repeat,
        order_idx=placed.order_idx,
        started_at=started_at(document, run),
        environment={"client": run.tool, **{key: value for key, value in versions.items() if value is not None}},
        host={"hostname": HOST},
        session={"started_at": placed.session_started_at, "label": choices.label, "trigger": "import"},
    )


def _prepared(run: ImportedRun, choices: Choices) -> Prepared:
    device = choices.device or run.device or UNKNOWN
    case = Case(
        key=case_key(run, choices),
        workload=workload_of(run, choices),
        model=ModelTable(name=_plain(run.model), path=run.model),
        backend=run.server,
        precision=run.precision or UNKNOWN,
        warmup_s=0.0,
        duration_s=0.0,
        load=run.load,
        options={"client": run.tool, **({} if run.endpoint is None else {"endpoint": _endpoint(run.endpoint)})},
    )
    found = Availability(available=True, version=run.server_version, device=device)
    return Prepared(case=case, availability=found, device=device, model_sha256=None)


def _endpoint(told: str) -> str:
    """Return the endpoint in our words, where it is one of ours."""
    for name in ("chat", "completions"):
        if name in told:
            return name
    return told


def _measurement(run: ImportedRun, judged: Judgement, device: str) -> Measurement:
    return Measurement(
        tables={} if run.requests is None else {"llm_requests": run.requests},
        window_ns=run.window_ns,
        metrics=judged.metrics,
        reasons=judged.reasons,
        realised_precision=run.precision,
        versions={key: value for key, value in ((run.tool, run.tool_version), *run.versions.items()) if value},
        command=run.command,
        counts=judged.counts,
        notes=judged.notes,
        device=device,
        device_count=run.device_count,
    )


def _warmup(run: ImportedRun) -> tuple[PhaseMark, ...]:
    if run.requests is None:
        return ()
    import pyarrow.compute as pc

    first = pc.min(run.requests["sent_at_ns"]).as_py()
    if first is None or first >= 0:
        return ()
    return (PhaseMark(name=Phase.WARMUP, start_ns=first, end_ns=0),)


def _ended_at(document: Document, run: ImportedRun) -> str:
    if run.started_unix_ns is None:
        return document.modified_at
    return iso(run.started_unix_ns + run.window_ns[1])


def _finite(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return JSON without NaN and infinity, which some tools write and JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _origin(document: Document, run: ImportedRun) -> Json:
    return {
        "tool": run.tool,
        "tool_version": run.tool_version,
        "file": document.name.rsplit("/", 1)[-1],
        "sha256": document.sha256,
        "place": run.place or None,
        "model": run.model,
        "beside": dict(document.beside_sha256),
        "server_version": run.server_version,
        "endpoint": run.endpoint,
    }
