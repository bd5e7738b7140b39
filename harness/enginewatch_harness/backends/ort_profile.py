"""ONNX Runtime's profiler output (a Chrome trace) → the table of layers. Pure."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pyarrow as pa

from enginewatch_db.errors import MeasurementError
from enginewatch_db.tables import LAYERS, conform
from enginewatch_harness.backends.ort_cost import node_facts, source_node

_SUFFIX = "_kernel_time"


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
    rows = [_row(index, name, node, total) for index, ((name, _), node) in enumerate(nodes.items())]
    return conform("layers", pa.Table.from_pylist(rows, schema=LAYERS))


def _collect(events: list[Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the events of each node; nodes that the optimiser added share names, so their index is part of the key."""
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        name = event.get("name") if isinstance(event, dict) else None
        if not isinstance(name, str) or event.get("cat") != "Node" or not name.endswith(_SUFFIX):
            continue
        found = event.get("args")
        arguments = found if isinstance(found, dict) else {}
        key = name.removesuffix(_SUFFIX), str(arguments.get("node_index", ""))
        nodes.setdefault(key, {"durations": [], "args": arguments})["durations"].append(int(event.get("dur", 0)))
    return nodes


def _row(index: int, name: str, node: dict[str, Any], total_us: int) -> dict[str, Any]:
    durations: list[int] = node["durations"]
    arguments: dict[str, Any] = node["args"]
    spent = sum(durations)
    operator = arguments.get("op_name")
    facts = node_facts(str(operator or ""), arguments)
    return {
        "layer_idx": index,
        "name": name,
        "layer_type": operator,
        "tactic": arguments.get("provider"),
        "dtype": facts.dtype,
        "calls": len(durations),
        "mean_ns": round(spent * 1000 / len(durations)),
        "median_ns": round(statistics.median(durations) * 1000),
        "time_pct": 100 * spent / total_us if total_us else None,
        "source": "onnxruntime",
        "input_dtype": facts.input_dtype,
        "output_dtype": facts.output_dtype,
        "input_shapes": facts.input_shapes,
        "output_shapes": facts.output_shapes,
        "origin": [source_node(name)],
        "weight_bytes": facts.weight_bytes,
        "bytes": facts.bytes,
        "flops": facts.flops,
    }
