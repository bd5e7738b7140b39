"""GPU work and API calls as a profiler recorded them, whichever profiler it was. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

KERNEL, MEMCPY, MEMSET, GRAPH = "kernel", "memcpy", "memset", "graph"

_SUFFIX = re.compile(r"_v\d+(_ptsz|_ptds)?$")

COPY_KINDS = {
    1: "host to device",
    2: "device to host",
    3: "host to array",
    4: "array to host",
    5: "array to array",
    6: "array to device",
    7: "device to array",
    8: "device to device",
    9: "host to host",
    10: "device to another device",
    11: "unified memory, host to device",
    12: "unified memory, device to host",
    13: "unified memory, device to another device",
}
"""Values of ``CUpti_ActivityMemcpyKind``, and of ``ENUM_CUDA_MEMCPY_OPER``, which adds those of unified memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuWork:
    """One thing that the GPU did.

    Attributes:
        kind: ``kernel``, ``memcpy``, ``memset``, or ``graph`` for a CUDA graph that was traced as a whole.
        start_ns: When it began, from the recording's origin.
        end_ns: When it ended.
        name: Of a kernel: its full name.
        correlation: Number of the API call that caused it; ``None`` where it was not recorded.
        process: The process of that call; ``None``: the recording has only one.
        device: CUDA device index.
        stream: CUDA stream id.
        layer: Layer that launched it, where NVTX tells.
        grid: Blocks, ``8x4x1``.
        block: Threads of a block.
        in_graph: Whether a CUDA graph launched it.
        size_bytes: Of a copy or memset.
        copy_kind: Of a copy: key of ``COPY_KINDS``.
        pageable: Of a copy: whether an end of it is pageable host memory; ``None`` where it is unknown.
    """

    kind: str
    start_ns: int
    end_ns: int
    name: str = ""
    correlation: int | None = None
    process: int | None = None
    device: int | None = None
    stream: int | None = None
    layer: str | None = None
    grid: str | None = None
    block: str | None = None
    in_graph: bool = False
    size_bytes: int | None = None
    copy_kind: int | None = None
    pageable: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the CUDA runtime or driver API.

    Attributes:
        name: Without the suffix of its version.
        start_ns: When it began, from the recording's origin.
        end_ns: When it returned.
        correlation: Number that the work it caused carries too.
        process: Its process; ``None``: the recording has only one.
        thread: Its thread.
    """

    name: str
    start_ns: int
    end_ns: int
    correlation: int | None = None
    process: int | None = None
    thread: int | None = None

    @property
    def launches(self) -> bool:
        """Whether it launches a kernel or a CUDA graph."""
        return self.name.startswith(("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cuGraphLaunch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a profiler recorded.

    Attributes:
        work: What the GPU did, in order of start.
        calls: What the host called, in order of start.
        source: Whose recording it is: ``nsys`` or ``cupti``.
        version: Version of that tool; ``None`` where unknown.
        schema: Version of the format; ``None`` where there is none.
        notes: What is missing in it, in words.
    """

    work: tuple[GpuWork, ...]
    calls: tuple[Call, ...] = ()
    source: str = "nsys"
    version: str | None = None
    schema: str | None = None
    notes: tuple[str, ...] = ()


def plain_name(name: str) -> str:
    """Return the name of an API function without its version: ``cudaMalloc`` of ``cudaMalloc_v3020``."""
    return _SUFFIX.sub("", name)
