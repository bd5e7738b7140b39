"""From a recording to the table of kernels and to metrics, the same way for every profiler. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from enginewatch_harness.nsys.events import COPY_KINDS, GRAPH, KERNEL, MEMCPY, MEMSET, Call, GpuWork, Recording
from enginewatch_harness.nsys.intervals import Interval, gaps, length, merged, overlap
from enginewatch_harness.nsys.window import Window, find_window

MOST_GAPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """Launches of one kernel with one shape from one layer; times in ns."""

    name: str
    layer: str | None
    grid: str | None
    block: str | None
    calls: int
    total_ns: int
    mean_ns: int
    median_ns: int
    min_ns: int
    max_ns: int
    time_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRow:
    """Copies or memsets of one kind.

    Attributes:
        kind: In words.
        count: How many.
        total_ns: Their durations together.
        size_bytes: What they moved; ``None`` where the recording does not tell.
        gib_s: Bytes over duration; ``None`` where one of them is unknown or 0.
        pageable: Copies with an end in pageable host memory; ``None`` where unknown.
    """

    kind: str
    count: int
    total_ns: int
    size_bytes: int | None
    gib_s: float | None
    pageable: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """Calls of one API function; times in ns."""

    name: str
    calls: int
    total_ns: int
    median_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time in which the GPU had nothing to do.

    Attributes:
        start_ns: From the recording's origin.
        duration_ns: Its length.
        before: What ran last.
        after: What ran next.
    """

    start_ns: int
    duration_ns: int
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a recording says about its window.

    Attributes:
        window: Which part of it.
        kernels: The table of kernels, most time first.
        copies: Copies and memsets by kind, most time first.
        calls: API calls of the window by name, most time first.
        streams: Stream → time in ns with something running on it.
        busy_ns: Time with anything running on the GPU.
        gaps: The longest times without.
        gap_count: How many there are.
        launches: Calls of the window that launched something.
        launch_api_p50_us: Median duration of such a call; ``None`` where none was recorded.
        launch_latency_p50_us: Median from its start to the start of what it launched.
        memcpy_overlap_pct: Share of the time of copies in which a kernel ran too; ``None`` without copies.
    """

    window: Window
    kernels: tuple[KernelRow, ...]
    copies: tuple[CopyRow, ...]
    calls: tuple[CallRow, ...]
    streams: dict[str, int]
    busy_ns: int
    gaps: tuple[Gap, ...]
    gap_count: int
    launches: int
    launch_api_p50_us: float | None
    launch_latency_p50_us: float | None
    memcpy_overlap_pct: float | None

    @property
    def idle_pct(self) -> float | None:
        """Share of the window without work on the GPU; ``None`` for an empty window."""
        whole = self.window.end_ns - self.window.start_ns
        return 100 * (whole - self.busy_ns) / whole if whole > 0 else None


def summarize(recording: Recording, inferences: int | None = None) -> Summary | None:
    """Return what the recording says about its inferences; ``None`` where nothing ran on the GPU.

    Args:
        recording: Work and calls, each in order of start.
        inferences: How many were done at least; ``None``: unknown, and all of the recording is looked at.
    """
    window = find_window(recording.work, inferences)
    if window is None:
        return None
    inside = (window.start_ns, window.end_ns)
    work = [item for item in recording.work if item.end_ns > inside[0] and item.start_ns < inside[1]]
    computing = merged(_clip(_span(item), inside) for item in work if item.kind in (KERNEL, GRAPH))
    copying = merged(_clip(_span(item), inside) for item in work if item.kind == MEMCPY)
    busy = merged(_clip(_span(item), inside) for item in work)
    idle = gaps(busy, inside)
    launches = _launches(recording.calls, work)
    caused = {key: call for key, (call, _) in launches.items()}
    return Summary(
        window=window,
        kernels=kernel_rows(item for item in work if item.kind == KERNEL),
        copies=copy_rows(item for item in work if item.kind in (MEMCPY, MEMSET)),
        calls=call_rows(call for call in recording.calls if _within(call, inside) or caused.get(_key(call)) is call),
        streams=_streams(work, inside),
        busy_ns=length(busy),
        gaps=_longest(idle, work),
        gap_count=len(idle),
        launches=len(launches),
        launch_api_p50_us=_median_us(call.end_ns - call.start_ns for call, _ in launches.values()),
        launch_latency_p50_us=_median_us(begin - call.start_ns for call, begin in launches.values()),
        memcpy_overlap_pct=100 * overlap(copying, computing) / length(copying) if copying else None,
    )


def _span(item: GpuWork) -> Interval:
    return item.start_ns, item.end_ns


def _clip(span: Interval, window: Interval) -> Interval:
    return max(span[0], window[0]), min(span[1], window[1])


def _within(call: Call, window: Interval) -> bool:
    return window[0] <= call.start_ns < window[1]


def _key(item: GpuWork | Call) -> tuple[int | None, int | None]:
    return item.process, item.correlation


def kernel_rows(kernels: Iterable[GpuWork]) -> tuple[KernelRow, ...]:
    """Group kernels by name, layer and shape; shares are of the time of all of them."""
    groups: dict[tuple[str, str | None, str | None, str | None], list[int]] = defaultdict(list)
    for item in kernels:
        groups[item.name, item.layer, item.grid, item.block].append(item.end_ns - item.start_ns)
    whole = sum(map(sum, groups.values()))
    rows = [
        KernelRow(
            name=name,
            layer=layer,
            grid=grid,
            block=block,
            calls=len(times),
            total_ns=sum(times),
            mean_ns=round(fmean(times)),
            median_ns=round(median(times)),
            min_ns=min(times),
            max_ns=max(times),
            time_pct=100 * sum(times) / whole if whole else 0.0,
        )
        for (name, layer, grid, block), times in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.total_ns, row.name, row.layer or "", row.grid or "")))


def copy_rows(work: Iterable[GpuWork]) -> tuple[CopyRow, ...]:
    """Group copies by direction, and memsets."""
    groups: dict[str, list[GpuWork]] = defaultdict(list)
    for item in work:
        kind = f"copy {COPY_KINDS.get(item.copy_kind or 0, 'of unknown kind')}" if item.kind == MEMCPY else "memset"
        groups[kind].append(item)
    rows = [_copy_row(kind, items) for kind, items in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.total_ns, row.kind)))


def _copy_row(kind: str, items: list[GpuWork]) -> CopyRow:
    total_ns = sum(item.end_ns - item.start_ns for item in items)
    sizes = [item.size_bytes for item in items if item.size_bytes is not None]
    size = sum(sizes) if len(sizes) == len(items) else None
    told = [item.pageable for item in items if item.pageable is not None]
    return CopyRow(
        kind=kind,
        count=len(items),
        total_ns=total_ns,
        size_bytes=size,
        gib_s=size / total_ns * 1e9 / 2**30 if size and total_ns else None,
        pageable=sum(told) if told else None,
    )


def call_rows(calls: Iterable[Call]) -> tuple[CallRow, ...]:
    """Group API calls by name."""
    groups: dict[str, list[int]] = defaultdict(list)
    for call in calls:
        groups[call.name].append(call.end_ns - call.start_ns)
    rows = [
        CallRow(name=name, calls=len(times), total_ns=sum(times), median_ns=round(median(times)), max_ns=max(times))
        for name, times in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.total_ns, row.name)))


def _launches(calls: Sequence[Call], work: Sequence[GpuWork]) -> dict[tuple[int | None, int | None], tuple[Call, int]]:
    """Return (process, correlation) → the call that launched it, and when the first of it began on the GPU.

    Where runtime and driver both recorded a launch, the outer call counts.
    """
    begun: dict[tuple[int | None, int | None], int] = {}
    for item in work:
        if item.kind in (KERNEL, GRAPH) and item.correlation is not None:
            begun[_key(item)] = min(item.start_ns, begun.get(_key(item), item.start_ns))
    found: dict[tuple[int | None, int | None], tuple[Call, int]] = {}
    for call in calls:
        key = _key(call)
        if call.launches and key in begun and (key not in found or call.end_ns > found[key][0].end_ns):
            found[key] = (call, begun[key])
    return found


def _median_us(times_ns: Iterable[int]) -> float | None:
    found = list(times_ns)
    return median(found) / 1000 if found else None


def _streams(work: Sequence[GpuWork], window: Interval) -> dict[str, int]:
    spans: dict[str, list[Interval]] = defaultdict(list)
    for item in work:
        device = "" if item.device is None else f"device {item.device} "
        spans[f"{device}stream {item.stream}"].append(_clip(_span(item), window))
    return {name: length(merged(found)) for name, found in sorted(spans.items())}


def _longest(idle: Sequence[Interval], work: Sequence[GpuWork]) -> tuple[Gap, ...]:
    longest = sorted(idle, key=lambda gap: (gap[0] - gap[1], gap[0]))[:MOST_GAPS]
    return tuple(
        Gap(
            start_ns=start,
            duration_ns=end - start,
            before=_label(next((item for item in reversed(work) if item.end_ns == start), None)),
            after=_label(next((item for item in work if item.start_ns == end), None)),
        )
        for start, end in longest
    )


def _label(item: GpuWork | None) -> str:
    if item is None:
        return "(nothing)"
    return (
        item.layer or item.name or (COPY_KINDS.get(item.copy_kind or 0) if item.kind == MEMCPY else None) or item.kind
    )
