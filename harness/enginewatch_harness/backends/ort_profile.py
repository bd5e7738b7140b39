"""ONNX Runtime's profiler output (a Chrome trace) → the table of layers. Pure."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pyarrow as pa

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import conform

_SUFFIX = "_kernel_time"
_DTYPES = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
}


def layers_from_trace(text: str) -> pa.Table:
    """Return one row per node: calls, mean and median of its kernel time, share of the sum over all nodes.

    Args:
        text: Content of the profiler's file.

    Raises:
        MeasurementError: The file is not such a trace, or has no kernel times.
    """
    try:
        events = json.loads(text)
    except ValueError as error:
        raise MeasurementError(f"onnxruntime's profile is not JSON: {error}", code="no_samples") from error
    nodes = _collect(events if isinstance(events, list) else [])
    if not nodes:
        raise MeasurementError("onnxruntime's profile has no kernel times", code="no_samples")
    total = sum(sum(node["durations"]) for node in nodes.values())
    rows = [_row(index, name, node, total) for index, (name, node) in enumerate(nodes.items())]
    return conform("layers", pa.Table.from_pylist(rows))


def _collect(events: list[Any]) -> dict[str, dict[str, Any]]:
    nodes: dict[str, dict[str, Any]] = {}
    for event in events:
        name = event.get("name") if isinstance(event, dict) else None
        if not isinstance(name, str) or event.get("cat") != "Node" or not name.endswith(_SUFFIX):
            continue
        arguments = event.get("args") or {}
        node = nodes.setdefault(name.removesuffix(_SUFFIX), {"durations": [], "args": arguments})
        node["durations"].append(int(event.get("dur", 0)))
    return nodes


def _row(index: int, name: str, node: dict[str, Any], total_us: int) -> dict[str, Any]:
    durations: list[int] = node["durations"]
    arguments: dict[str, Any] = node["args"]
    spent = sum(durations)
    return {
        "layer_idx": index,
        "name": name,
        "layer_type": arguments.get("op_name"),
        "tactic": arguments.get("provider"),
        "dtype": _dtype(arguments.get("input_type_shape")),
        "calls": len(durations),
        "mean_ns": round(spent * 1000 / len(durations)),
        "median_ns": round(statistics.median(durations) * 1000),
        "time_pct": 100 * spent / total_us if total_us else None,
        "source": "onnxruntime",
    }


def _dtype(inputs: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Return the type of the first input, in enginewatch's words; onnxruntime writes ``[{"float": [1, 3]}, ...]``."""
    if not isinstance(inputs, list) or not inputs or not isinstance(inputs[0], dict) or not inputs[0]:
        return None
    kind = str(next(iter(inputs[0])))
    return _DTYPES.get(kind, kind)
