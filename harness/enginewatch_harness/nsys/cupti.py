"""CUPTI inside this process, through NVIDIA's package ``cupti-python``: for where there is no nsys.

Only one client may use CUPTI in a process, and torch's profiler is one.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from importlib import metadata
from types import TracebackType
from typing import Any, TypeVar

from enginewatch_db.errors import NotAvailableError
from enginewatch_harness.nsys.demangle import demangled
from enginewatch_harness.nsys.events import GRAPH, KERNEL, MEMCPY, MEMSET, Call, GpuWork, Recording, plain_name

REMEDY = "pip install 'enginewatch[gpu-diagnostics]', or install nsys"
_BUFFER_BYTES = 8 << 20
_FORCED_FLUSH = 1
_PAGEABLE = 1
"""``CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE``; 0 is unknown."""

_Item = TypeVar("_Item", GpuWork, Call)
_KINDS = ("CONCURRENT_KERNEL", "MEMCPY", "MEMSET", "RUNTIME", "DRIVER")


def load_cupti() -> Any:  # noqa: ANN401 - cupti-python's types say nothing
    """Return the module.

    Raises:
        NotAvailableError: It is not installed, cannot find its library, or torch holds CUPTI in this process.
    """
    if "torch" in sys.modules:
        raise NotAvailableError("torch uses CUPTI in this process, and only one may", remedy="install nsys")
    try:
        return importlib.import_module("cupti.cupti")
    except (ImportError, OSError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "cupti":
            raise NotAvailableError("cupti-python is not installed", remedy=REMEDY) from error
        raise NotAvailableError(f"cupti-python cannot be loaded: {error}", remedy=REMEDY) from error


class CuptiRecorder:
    """Records what the GPU does while it is entered.

    Args:
        module: What ``load_cupti`` returned.
    """

    def __init__(self, module: Any) -> None:  # noqa: ANN401
        self._cupti = module
        self._work: list[GpuWork] = []
        self._calls: list[Call] = []
        self._enabled: list[Any] = []
        self._dropped = 0
        kinds = module.ActivityKind
        self._readers = {
            int(kinds.CONCURRENT_KERNEL): self._kernel,
            int(kinds.MEMCPY): self._copy,
            int(kinds.MEMSET): self._set,
            int(kinds.RUNTIME): self._call,
            int(kinds.DRIVER): self._call,
            int(getattr(kinds, "GRAPH_TRACE", -1)): self._graph,
        }

    def __enter__(self) -> CuptiRecorder:
        """Begin.

        Raises:
            NotAvailableError: CUPTI refuses: another profiler has it, or the driver forbids it.
        """
        cupti = self._cupti
        try:
            cupti.activity_register_callbacks(lambda: (_BUFFER_BYTES, 0), self._completed)
            for name in _KINDS:
                kind = getattr(cupti.ActivityKind, name)
                cupti.activity_enable(kind)
                self._enabled.append(kind)
        except Exception as error:
            self._disable()
            # Its own exception class is known only to the package.
            raise NotAvailableError(f"CUPTI refuses to record: {error}", remedy="end other profilers") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take what is in CUPTI's buffers, and stop."""
        self._cupti.activity_flush_all(_FORCED_FLUSH)
        self._disable()

    def _disable(self) -> None:
        while self._enabled:
            self._cupti.activity_disable(self._enabled.pop())

    def _completed(self, activities: list[Any]) -> None:
        for activity in activities:
            reader = self._readers.get(int(activity.kind))
            # CUPTI documents 0 for times that it could not take.
            if reader is not None and activity.start and activity.end:
                reader(activity)
            elif reader is not None:
                self._dropped += 1

    def _kernel(self, item: Any) -> None:  # noqa: ANN401
        self._work.append(
            GpuWork(
                kind=KERNEL,
                name=demangled(str(item.name)),
                grid=f"{item.grid_x}x{item.grid_y}x{item.grid_z}",
                block=f"{item.block_x}x{item.block_y}x{item.block_z}",
                in_graph=bool(item.graph_node_id),
                **_place(item),
            )
        )

    def _copy(self, item: Any) -> None:  # noqa: ANN401
        ends = (int(item.src_kind), int(item.dst_kind))
        self._work.append(
            GpuWork(
                kind=MEMCPY,
                size_bytes=int(item.bytes),
                copy_kind=int(item.copy_kind),
                pageable=_PAGEABLE in ends if any(ends) else None,
                in_graph=bool(item.graph_node_id),
                **_place(item),
            )
        )

    def _set(self, item: Any) -> None:  # noqa: ANN401
        node = bool(getattr(item, "graph_node_id", 0))
        self._work.append(GpuWork(kind=MEMSET, size_bytes=int(item.bytes), in_graph=node, **_place(item)))

    def _graph(self, item: Any) -> None:  # noqa: ANN401
        self._work.append(GpuWork(kind=GRAPH, name=f"graph {item.graph_id}", in_graph=True, **_place(item)))

    def _call(self, item: Any) -> None:  # noqa: ANN401
        domains = self._cupti.CallbackDomain
        runtime = int(item.kind) == int(self._cupti.ActivityKind.RUNTIME)
        name = self._cupti.get_callback_name(domains.RUNTIME_API if runtime else domains.DRIVER_API, item.cbid)
        self._calls.append(
            Call(
                name=plain_name(str(name)),
                start_ns=int(item.start),
                end_ns=int(item.end),
                correlation=int(item.correlation_id),
                thread=int(item.thread_id),
            )
        )

    def recording(self) -> Recording:
        """Return what was recorded, with times from its first event on."""
        starts = [item.start_ns for item in self._work] + [call.start_ns for call in self._calls]
        origin = min(starts, default=0)
        lost = (f"{self._dropped} records came without times",) if self._dropped else ()
        work = [_moved(item, origin) for item in self._work]
        calls = [_moved(call, origin) for call in self._calls]
        return Recording(
            work=tuple(sorted(work, key=lambda item: item.start_ns)),
            calls=tuple(sorted(calls, key=lambda call: call.start_ns)),
            source="cupti",
            version=_version(),
            notes=lost,
        )


def _moved(item: _Item, origin: int) -> _Item:
    return replace(item, start_ns=item.start_ns - origin, end_ns=item.end_ns - origin)


def _place(item: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "start_ns": int(item.start),
        "end_ns": int(item.end),
        "correlation": int(item.correlation_id),
        "device": int(item.device_id),
        "stream": int(item.stream_id),
    }


def _version() -> str | None:
    try:
        return metadata.version("cupti-python")
    except metadata.PackageNotFoundError:
        return None
