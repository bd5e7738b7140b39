"""Read a report that ``nsys export --type=sqlite`` wrote, of any version.

Tables are created only where there is data, and columns come and go: each is looked for before it is asked for.
Columns are those of NVIDIA's "SQLite Schema Reference" (User Guide of Nsight Systems).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.nsys.events import GRAPH, KERNEL, MEMCPY, MEMSET, Call, GpuWork, Recording, plain_name
from enginewatch_harness.nsys.layers import Point, innermost, read_graph_nodes, read_ranges, tid_process
from enginewatch_harness.nsys.tables import Tables, damaged

_KERNELS = "CUPTI_ACTIVITY_KIND_KERNEL"
_COPIES = "CUPTI_ACTIVITY_KIND_MEMCPY"
_SETS = "CUPTI_ACTIVITY_KIND_MEMSET"
_GRAPHS = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
_CALLS = "CUPTI_ACTIVITY_KIND_RUNTIME"
_PLACE = ("start", "end", "correlationId", "globalPid", "deviceId", "streamId")
_TIMES = ("start", "end")

_LONGEST_NS = 2**53
"""Of a recording: 104 days. Sums of its times then fit where they are stored."""

_OLD_PAGEABLE = 0
"""In ``ENUM_CUDA_MEM_KIND``, for files that do not have that table."""


@contextmanager
def open_report(path: Path) -> Iterator[Tables]:
    """Open an exported report for reading.

    Raises:
        MeasurementError: ``results_damaged``: it is no SQLite file, or none that nsys wrote.
    """
    remedy = "export it again: nsys export --type=sqlite FILE.nsys-rep"
    if not path.is_file():
        raise MeasurementError(f"there is no file {path}", code="results_damaged", remedy="check the path")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
            tables = Tables(connection)
            if not any(name.startswith(("CUPTI_", "META_DATA_", "StringIds", "TARGET_INFO_")) for name in tables.names):
                raise MeasurementError(
                    f"{path.name} has none of Nsight Systems' tables", code="results_damaged", remedy=remedy
                )
            yield tables
    except sqlite3.DatabaseError as error:
        raise MeasurementError(
            f"{path.name} is not a readable SQLite export of Nsight Systems: {error}",
            code="results_damaged",
            remedy=remedy,
        ) from error


def read_recording(path: Path) -> Recording:
    """Return what a report recorded, with times from its first event on.

    Raises:
        MeasurementError: ``results_damaged``.
    """
    with open_report(path) as tables:
        origin = _origin(tables)
        calls = sorted(_calls(tables, origin), key=lambda call: call.start_ns)
        work = [*_kernels(tables, origin, calls), *_transfers(tables, origin), *_graphs(tables, origin)]
        meta = tables.metadata()
        notes = _notes(tables, work)
    return Recording(
        work=tuple(sorted(work, key=lambda item: (item.start_ns, item.end_ns))),
        calls=tuple(calls),
        source="nsys",
        version=meta.get("version"),
        schema=meta.get("schema"),
        notes=notes,
    )


def _origin(tables: Tables) -> int:
    """Return the first moment of all: files may count from the session's start or from 1970."""
    firsts = []
    for table in (_KERNELS, _COPIES, _SETS, _GRAPHS, _CALLS):
        times = tables.rows(table, _TIMES, needed=("start",))
        # CUPTI documents 0 for both times where it could not take them.
        firsts += [start for start, end in times if start is not None and (start or end)]
    return min(firsts, default=0)


def _span(start: int | None, end: int | None, origin: int) -> dict[str, int]:
    if start is None or end is None or end - origin > _LONGEST_NS:
        raise damaged(f"something runs from {start} to {end} ns")
    return {"start_ns": start - origin, "end_ns": max(start, end) - origin}


def _place(row: Sequence[Any], origin: int) -> dict[str, Any]:
    start, end, correlation, pid, device, stream = row
    return {
        **_span(start, end, origin),
        "correlation": correlation,
        "process": tid_process(pid),
        "device": device,
        "stream": stream,
    }


def _calls(tables: Tables, origin: int) -> Iterator[Call]:
    # Without a process on the side of the work, correlations alone must do.
    with_process = "globalPid" in tables.columns(_KERNELS) or "globalPid" in tables.columns(_GRAPHS)
    columns = ("start", "end", "nameId", "correlationId", "globalTid")
    for start, end, name, correlation, tid in tables.rows(_CALLS, columns, needed=(*_TIMES, "nameId")):
        yield Call(
            name=plain_name(tables.text(name) or f"function {name}"),
            **_span(start, end, origin),
            correlation=correlation,
            process=tid_process(tid) if with_process else None,
            thread=tid,
        )


def _kernels(tables: Tables, origin: int, calls: Sequence[Call]) -> Iterator[GpuWork]:
    columns = (*_PLACE, "demangledName", "shortName", "mangledName", "graphNodeId", *_dimensions())
    rows = list(tables.rows(_KERNELS, columns, needed=_TIMES))
    layers = _layers(tables, origin, calls, [_place(row[:6], origin) | {"node": row[9]} for row in rows])
    for row, layer in zip(rows, layers, strict=True):
        names = (tables.text(key) for key in row[6:9])
        yield GpuWork(
            kind=KERNEL,
            name=next((name for name in names if name), "(unnamed)"),
            layer=layer,
            grid=_extent(row[10:13]),
            block=_extent(row[13:16]),
            in_graph=bool(row[9]),
            **_place(row[:6], origin),
        )


def _dimensions() -> tuple[str, ...]:
    return tuple(f"{what}{axis}" for what in ("grid", "block") for axis in "XYZ")


def _extent(values: Sequence[int | None]) -> str | None:
    return None if None in values else "x".join(map(str, values))


def _layers(tables: Tables, origin: int, calls: Sequence[Call], kernels: list[dict[str, Any]]) -> list[str | None]:
    ranges = read_ranges(tables)
    if not ranges:
        return [None] * len(kernels)
    nodes = read_graph_nodes(tables)
    launched: dict[tuple[int | None, int | None], Point] = {}
    for call in calls:
        launched.setdefault((call.process, call.correlation), (call.thread, call.start_ns + origin))
    points = [
        nodes.get(kernel["node"]) if kernel["node"] else launched.get((kernel["process"], kernel["correlation"]))
        for kernel in kernels
    ]
    named = innermost(ranges, [point for point in points if point is not None])
    return [None if point is None else named.get(point) for point in points]


def _transfers(tables: Tables, origin: int) -> Iterator[GpuWork]:
    kinds = tables.labels("ENUM_CUDA_MEM_KIND")
    pageable = {key for key, label in kinds.items() if "pageable" in label.lower()} or {_OLD_PAGEABLE}
    columns = (*_PLACE, "bytes", "copyKind", "srcKind", "dstKind", "graphNodeId")
    for row in tables.rows(_COPIES, columns, needed=_TIMES):
        size, kind, source, target, node = row[6:]
        ends = [end for end in (source, target) if end is not None]
        yield GpuWork(
            kind=MEMCPY,
            size_bytes=size,
            copy_kind=kind,
            pageable=any(end in pageable for end in ends) if ends else None,
            in_graph=bool(node),
            **_place(row[:6], origin),
        )
    for row in tables.rows(_SETS, (*_PLACE, "bytes", "graphNodeId"), needed=_TIMES):
        yield GpuWork(kind=MEMSET, size_bytes=row[6], in_graph=bool(row[7]), **_place(row[:6], origin))


def _graphs(tables: Tables, origin: int) -> Iterator[GpuWork]:
    for row in tables.rows(_GRAPHS, (*_PLACE, "graphId"), needed=_TIMES):
        if row[0] or row[1]:
            yield GpuWork(kind=GRAPH, name=f"graph {row[6]}", in_graph=True, **_place(row[:6], origin))


def _notes(tables: Tables, work: Sequence[GpuWork]) -> tuple[str, ...]:
    notes = []
    if any(item.kind == GRAPH for item in work):
        notes.append(
            "CUDA graphs were traced as a whole: the rows of their kernels are missing; "
            "record with --cuda-graph-trace=node"
        )
    elif not any(item.kind == KERNEL for item in work):
        notes.append("no kernel was recorded")
    if work and not tables.count(_CALLS):
        notes.append("no API call was recorded, so nothing is known about launches")
    return tuple(notes)
