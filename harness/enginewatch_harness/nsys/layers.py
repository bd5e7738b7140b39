"""Which layer launched a kernel: NVTX ranges around the launch, or around the making of a CUDA graph's node.

A kernel of a CUDA graph is launched long after the layer's code ran. But the node that it comes from was made inside
the layer's range, when the graph was captured; an instantiated graph has copies, each naming its original.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from enginewatch_harness.nsys.tables import Tables

DOMAIN_CREATED = 75
PUSH_POP = (59, 70)
"""Values of ``eventType`` (``ENUM_NSYS_EVENT_TYPE``): a domain's name; ranges of a thread, of NVTX and of NVTX text."""

OWN_DOMAIN = "enginewatch"
_NOT_LAYERS = ("ExecutionContext::", "TensorRT:", "Engine::")
"""Ranges that TensorRT puts around an inference as a whole."""

_MOST_COPIES = 16

Point = tuple[int | None, int]
"""A thread, and a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range of one thread; times in ns as the file has them."""

    start_ns: int
    end_ns: int
    name: str


def read_ranges(tables: Tables) -> dict[int | None, list[Range]]:
    """Return thread → its ranges in order of start, without those that name no layer."""
    columns = ("start", "end", "eventType", "text", "textId", "domainId", "globalTid")
    rows = list(tables.rows("NVTX_EVENTS", columns, needed=("start", "end")))
    own = {
        (tid_process(tid), domain)
        for _, _, kind, text, key, domain, tid in rows
        if kind == DOMAIN_CREATED and (text or tables.text(key)) == OWN_DOMAIN
    }
    found: dict[int | None, list[Range]] = defaultdict(list)
    for start, end, kind, text, key, domain, tid in rows:
        name = str(text or tables.text(key) or "")
        if (
            start is None
            or end is None
            or not name
            or kind not in (None, *PUSH_POP)
            or (tid_process(tid), domain) in own
        ):
            continue
        if not name.startswith(_NOT_LAYERS):
            found[tid].append(Range(start_ns=start, end_ns=end, name=name))
    for ranges in found.values():
        ranges.sort(key=lambda item: (item.start_ns, -item.end_ns))
    return dict(found)


def tid_process(tid: int | None) -> int | None:
    """Return the process of a ``globalTid``, as ``globalPid`` without its thread bits."""
    return None if tid is None else tid >> 24


def read_graph_nodes(tables: Tables) -> dict[int, Point]:
    """Return node of a CUDA graph → where the node that it was copied from was made."""
    made: dict[int, Point] = {}
    original: dict[int, int] = {}
    columns = ("start", "globalTid", "graphNodeId", "originalGraphNodeId")
    for start, tid, node, source in tables.rows("CUDA_GRAPH_NODE_EVENTS", columns, needed=("start", "graphNodeId")):
        if start is None:
            continue
        if source is None:
            made.setdefault(node, (tid, start))
        else:
            original.setdefault(node, source)
    return {node: point for node in {*made, *original} if (point := _origin(node, made, original)) is not None}


def _origin(node: int, made: dict[int, Point], original: dict[int, int]) -> Point | None:
    for _ in range(_MOST_COPIES):  # a damaged file may have a circle
        if node in original:
            node = original[node]
        else:
            return made.get(node)
    return None


def innermost(ranges: dict[int | None, list[Range]], points: Iterable[Point]) -> dict[Point, str]:
    """Return the name of the innermost range around each moment that is in one.

    Args:
        ranges: Thread → ranges in order of start.
        points: Moments, each of a thread.
    """
    by_thread: dict[int | None, list[int]] = defaultdict(list)
    for tid, at in set(points):
        by_thread[tid].append(at)
    found: dict[Point, str] = {}
    for tid, moments in by_thread.items():
        waiting, open_, index = ranges.get(tid, []), list[Range](), 0
        for at in sorted(moments):
            while index < len(waiting) and waiting[index].start_ns <= at:
                open_.append(waiting[index])
                index += 1
            while open_ and open_[-1].end_ns < at:
                open_.pop()
            if open_:
                found[tid, at] = open_[-1].name
    return found
