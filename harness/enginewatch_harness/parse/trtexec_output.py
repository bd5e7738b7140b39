"""The outputs that trtexec exports, as arrays, and the bindings that its log names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.parse.trtexec_lines import LogLine

_DIMS = r"\(?\d*(?:(?:x|, )\d+)*\)?"
"""``8x3x224x224`` as recorded; the samples have a second spelling, ``(8, 3, 224, 224)``."""
_BINDING = re.compile(
    rf"^(?:Created )?(input|output|Input|Output) binding for (?P<name>.+?) with dimensions (?P<dims>{_DIMS})"
    r"(?: and type (?P<type>\w+))?(?: is created\.)?$"
)
_VALUE = r"(?:-?(?:\d+(?:\.\d+)?(?:e[-+]\d+)?|inf|nan))"
_OUTPUT = re.compile(
    r'(?P<between>[\s,]*)\{ "name" : "(?P<name>[^\n]*)"\n\s*, "dimensions" : "(?P<dims>' + _DIMS + r')"\n'
    r'\s*, "values" : \[ '
    rf"(?:Final shape is (?P<final>{_DIMS}) reported by the output allocator\.\n)?"
    rf"(?P<values>(?:{_VALUE}(?:, {_VALUE})*)?) \]\n\s*\}}"
)
_DTYPES: dict[str, type[np.generic]] = {
    "bool": np.bool_,
    "int4": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
}
"""Types of the log that are no floating-point numbers; those are printed with six digits whatever their type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One input or output of an engine; ``dtype`` is ``None`` up to TensorRT 9, which does not print it."""

    name: str
    is_input: bool
    dims: tuple[int, ...]
    dtype: str | None = None


def read_bindings(lines: Sequence[LogLine]) -> tuple[Binding, ...]:
    """Return the bindings that the log names, in its order."""
    matches = (_BINDING.match(line.text) for line in lines if line.whole and not line.library)
    return tuple(
        Binding(
            name=match["name"],
            is_input=match[1].lower() == "input",
            dims=_dims(match["dims"]),
            dtype=match["type"].lower() if match["type"] else None,
        )
        for match in matches
        if match
    )


def parse_output(text: str, dtypes: Mapping[str, str | None] | None = None) -> dict[str, NDArray[np.generic]]:
    """Read ``output.json``, which is no proper JSON: names are raw, ``nan`` and ``inf`` occur.

    Args:
        text: Content of the file.
        dtypes: Output → type as the log spells it; others are ``float32``.

    Returns:
        Output → array in its shape. Floating-point values have six significant digits.

    Raises:
        MeasurementError: ``results_damaged``: cut off, altered, or not as many values as the dimensions say;
            ``no_samples``: there is no output in it.
    """
    body = text.strip()
    if not (body.startswith("[\n") and body.endswith("\n]")):
        raise _damaged("does not begin and end as an array")
    outputs: dict[str, NDArray[np.generic]] = {}
    end = 1
    for match in _OUTPUT.finditer(body):
        if match.start() != end or match["name"] in outputs:
            raise _damaged(f"has something beside its outputs before {match['name']!r}")
        end = match.end()
        outputs[match["name"]] = _array(match, (dtypes or {}).get(match["name"]))
    if body[end:].strip() != "]":
        raise _damaged("has something beside its outputs at its end")
    if not outputs:
        raise MeasurementError("output.json has no output", code="no_samples", remedy="read the log of the run")
    return outputs


def _array(match: re.Match[str], dtype: str | None) -> NDArray[np.generic]:
    dims = _dims(match["final"] if match["final"] is not None else match["dims"])
    printed = match["values"].split(", ") if match["values"] else []
    if len(printed) != int(np.prod(dims, dtype=np.int64)):
        raise _damaged(f"has {len(printed)} values of {match['name']!r}, whose dimensions are {dims}")
    kind = _DTYPES.get(dtype or "", np.float32)
    try:
        exact = [int(value) for value in printed] if kind in _DTYPES.values() else [float(value) for value in printed]
        return np.array(exact, dtype=kind).reshape(dims)
    except (ValueError, OverflowError) as error:
        raise _damaged(f"has a value of {match['name']!r} that is no number: {error}") from error


def _dims(text: str) -> tuple[int, ...]:
    return tuple(int(part[:18]) for part in re.findall(r"\d+", text))


def _damaged(what: str) -> MeasurementError:
    return MeasurementError(f"output.json {what}", code="results_damaged", remedy="run it again: the file was cut off")
