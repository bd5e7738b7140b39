"""A trace of torch.profiler (Chrome's format) → the tables of layers and kernels. Pure."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import conform

_DTYPES = {"float": "fp32", "c10::Half": "fp16", "c10::BFloat16": "bf16", "double": "fp64"}
_GPU_WORK = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(slots=True, kw_only=True)
class _Group:
    """One operator with one set of input shapes."""

    name: str
    dims: str | None
    dtype: str | None
    durations_us: list[float] = field(default_factory=list)


def tables_of(text: str) -> dict[str, pa.Table]:
    """Return ``layers`` and, where kernels ran, ``kernels``.

    A layer is an operator with one set of input shapes. Its time is that of the kernels that it launched where there
    are kernels, else its own time on the CPU, that of the operators inside it taken off. A kernel that no operator
    launched (a replayed CUDA graph) is a layer of its own name.

    Args:
        text: Content of the file that ``export_chrome_trace`` wrote.

    Raises:
        MeasurementError: The file is not such a trace, or nothing in it took time.
    """
    try:
        trace = json.loads(text)
    except ValueError as error:
        raise MeasurementError(f"torch's profile is not JSON: {error}", code="no_samples") from error
    listed = trace.get("traceEvents") if isinstance(trace, dict) else None
    events = [event for event in listed or [] if isinstance(event, dict) and event.get("ph") == "X"]
    operators = [event for event in events if event.get("cat") == "cpu_op"]
    kernels = [event for event in events if event.get("cat") in _GPU_WORK]
    layers = _by_kernel(operators, kernels) if kernels else _by_own_time(operators)
    if not layers:
        raise MeasurementError("torch's profile has no operators", code="no_samples")
    tables = {"layers": conform("layers", pa.Table.from_pylist(_layer_rows(layers)))}
    if kernels:
        tables["kernels"] = conform("kernels", pa.Table.from_pylist(_kernel_rows(kernels, operators)))
    return tables


def _arguments(event: dict[str, Any]) -> dict[str, Any]:
    found = event.get("args")
    return found if isinstance(found, dict) else {}


def _external(event: dict[str, Any]) -> int | None:
    found = _arguments(event).get("External id")
    return found if isinstance(found, int) else None


def _group_of(event: dict[str, Any]) -> _Group:
    arguments = _arguments(event)
    dims = arguments.get("Input Dims") or []
    shapes = ["x".join(map(str, item)) for item in dims if isinstance(item, list) and item]
    kinds = [kind for kind in arguments.get("Input type") or [] if kind in _DTYPES]
    return _Group(
        name=str(event.get("name")),
        dims=", ".join(shapes) or None,
        dtype=_DTYPES[kinds[0]] if kinds else None,
    )


def _collect(pairs: list[tuple[_Group, float]]) -> list[_Group]:
    groups: dict[tuple[str, str | None, str | None], _Group] = {}
    for found, duration_us in pairs:
        group = groups.setdefault((found.name, found.dims, found.dtype), found)
        group.durations_us.append(duration_us)
    return list(groups.values())


def _by_kernel(operators: list[dict[str, Any]], kernels: list[dict[str, Any]]) -> list[_Group]:
    launched = {_external(event): event for event in operators if _external(event) is not None}
    spent: dict[object, tuple[_Group, float]] = {}
    for index, kernel in enumerate(kernels):
        parent = launched.get(_external(kernel))
        group = _group_of(parent) if parent else _Group(name=str(kernel.get("name")), dims=None, dtype=None)
        call: object = _external(kernel) if parent else ("kernel", index)
        before = spent[call][1] if call in spent else 0.0
        spent[call] = (group, before + float(kernel.get("dur", 0)))
    return _collect(list(spent.values()))


def _by_own_time(operators: list[dict[str, Any]]) -> list[_Group]:
    pairs: list[tuple[_Group, float]] = []
    for thread in {event.get("tid") for event in operators}:
        events = [event for event in operators if event.get("tid") == thread]
        events.sort(key=lambda event: (float(event["ts"]), -float(event.get("dur", 0))))
        own = [float(event.get("dur", 0)) for event in events]
        open_: list[int] = []
        for index, event in enumerate(events):
            while open_ and float(event["ts"]) >= _end(events[open_[-1]]):
                open_.pop()
            if open_:
                own[open_[-1]] -= float(event.get("dur", 0))
            open_.append(index)
        pairs += [(_group_of(event), max(0.0, spent)) for event, spent in zip(events, own, strict=True)]
    return [group for group in _collect(pairs) if sum(group.durations_us) > 0]


def _end(event: dict[str, Any]) -> float:
    return float(event["ts"]) + float(event.get("dur", 0))


def _layer_rows(groups: list[_Group]) -> list[dict[str, Any]]:
    total_us = sum(sum(group.durations_us) for group in groups)
    return [
        {
            "layer_idx": index,
            "name": f"{group.name} [{group.dims}]" if group.dims else group.name,
            "layer_type": group.name,
            "dtype": group.dtype,
            "calls": len(group.durations_us),
            "mean_ns": round(1000 * statistics.fmean(group.durations_us)),
            "median_ns": round(1000 * statistics.median(group.durations_us)),
            "time_pct": 100 * sum(group.durations_us) / total_us if total_us else None,
            "source": "torch",
            "input_shapes": group.dims,
        }
        for index, group in enumerate(groups)
    ]


def _kernel_rows(kernels: list[dict[str, Any]], operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
    launched = {_external(event): str(event.get("name")) for event in operators if _external(event) is not None}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for kernel in kernels:
        by_name.setdefault(str(kernel.get("name")), []).append(kernel)
    total_us = sum(float(kernel.get("dur", 0)) for kernel in kernels)
    rows = []
    for index, (name, found) in enumerate(by_name.items()):
        durations = [float(kernel.get("dur", 0)) for kernel in found]
        arguments = _arguments(found[0])
        rows.append(
            {
                "kernel_idx": index,
                "name": name,
                "layer": launched.get(_external(found[0])),
                "calls": len(found),
                "total_ns": round(1000 * sum(durations)),
                "mean_ns": round(1000 * statistics.fmean(durations)),
                "median_ns": round(1000 * statistics.median(durations)),
                "min_ns": round(1000 * min(durations)),
                "max_ns": round(1000 * max(durations)),
                "time_pct": 100 * sum(durations) / total_us if total_us else None,
                "grid": _extent(arguments.get("grid")),
                "block": _extent(arguments.get("block")),
                "source": "torch",
            }
        )
    return rows


def _extent(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    return "x".join(map(str, value)) if isinstance(value, list) and value else None
