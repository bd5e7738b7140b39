"""Layers of an engine: as the inspector tells them, or as a verbose build does; and what a profiler hears. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from enginewatch_harness.parse.inspector import Layer, parse_layers
from enginewatch_harness.parse.trtexec_json import LayerTime, Profile
from enginewatch_harness.parse.trtexec_lines import LogLine

_TENSORS = r"\[((?: \{.*?\},?)*) ?\]"
_LINE = re.compile(
    rf"^Name: (?P<name>.*?), LayerType: (?P<type>[^,]*), Inputs: {_TENSORS}(?:, Constants: {_TENSORS})?"
    rf", Outputs: {_TENSORS}(?P<rest>.*)$"
)
_TENSOR = re.compile(r"\{ Name: (?P<name>.*?), (?:Location: \w+, )?Dimensions: \[(?P<dims>[-\d,]*)\](?P<rest>.*?) \}")
_DATATYPE = re.compile(r"\bDatatype: (?P<type>\w+), Format: (?P<format>.*)$")
_BOTH = re.compile(r"\bFormat/Datatype: (?P<both>.*)$")
_TACTIC = re.compile(r"\bTacticName: (?P<tactic>[^,]*)")
_METADATA = re.compile(r"\bMetadata: (?P<metadata>.*)$")
_HEADS = ("Layers:", "Engine Layer Information")


def layers_from_log(lines: Sequence[LogLine]) -> tuple[Layer, ...]:
    """Return the layers that a build listed in its log; empty where it did not.

    An engine of TensorRT-RTX is built without a GPU and cannot be loaded without one: this list is then all there is.
    """
    listed = next((line.text for line in reversed(lines) if line.text.startswith(_HEADS)), "")
    found = [_layer(match) for match in map(_LINE.match, listed.split("\n")) if match]
    return parse_layers(json.dumps({"Layers": found})) if found else ()


def _layer(match: re.Match[str]) -> dict[str, Any]:
    inputs, constants, outputs = match[3], match[4], match[5]
    tactic, metadata = _TACTIC.search(match["rest"]), _METADATA.search(match["rest"])
    return {
        "Name": match["name"],
        "LayerType": match["type"],
        "Inputs": _tensors(inputs),
        "Constants": _tensors(constants or ""),
        "Outputs": _tensors(outputs),
        "TacticName": tactic["tactic"] if tactic else "",
        "Metadata": metadata["metadata"] if metadata else "",
    }


def _tensors(text: str) -> list[dict[str, Any]]:
    found = []
    for match in _TENSOR.finditer(text):
        tensor: dict[str, Any] = {
            "Name": match["name"],
            "Dimensions": [int(dim) for dim in match["dims"].split(",") if dim],
        }
        if kind := _DATATYPE.search(match["rest"]):
            tensor |= {"Datatype": kind["type"], "Format": kind["format"]}
        elif both := _BOTH.search(match["rest"]):
            tensor["Format/Datatype"] = both["both"]
        found.append(tensor)
    return found


class LayerTimes:
    """What an ``IProfiler`` hears: once for each layer and inference, in order; times of 0 occur."""

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}

    def report(self, name: str, ms: float) -> None:
        """Note one time."""
        self.times_ms.setdefault(name, []).append(ms)

    def profile(self, count: int) -> Profile:
        """Return the times of ``count`` inferences as trtexec exports them.

        Several parts of one name are one layer. A layer in a branch that was not always taken has fewer times.
        """
        total = sum(sum(times) for times in self.times_ms.values())
        return Profile(
            count=count,
            layers=tuple(
                LayerTime(
                    name=name,
                    time_ms=sum(times),
                    average_ms=sum(times) / count,
                    median_ms=median(_per_inference(times, count)),
                    percentage=100.0 * sum(times) / total if total > 0 else None,
                )
                for name, times in self.times_ms.items()
            ),
        )


def _per_inference(times: list[float], count: int) -> list[float]:
    parts = max(1, len(times) // count)
    return [sum(times[index : index + parts]) for index in range(0, len(times), parts)]
