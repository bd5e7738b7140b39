"""Precision → how it is put into a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from enginewatch_harness.backends.ort_bf16 import convert_to_bf16
from enginewatch_harness.graph_precision.calibration import Calibration, calibration_inputs
from enginewatch_harness.graph_precision.load import load_model, save_model
from enginewatch_harness.graph_precision.opset import raise_opset
from enginewatch_harness.graph_precision.ort_tools import quantize_static_int8, to_fp16


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One graph to make.

    Attributes:
        source: The fp32 model.
        target: File to write.
        shapes: Input shapes of the case.
        calibration: How, where there is a choice.
        work_dir: Scratch folder.
    """

    source: Path
    target: Path
    shapes: Mapping[str, tuple[int, ...]]
    calibration: Calibration
    work_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one precision is made.

    Attributes:
        make: Writes the graph and returns notes on it.
        tool: Who does it.
        calibrated: Whether shapes and inputs matter.
        options: Fields of ``Calibration`` that matter.
    """

    make: Callable[[Request], tuple[str, ...]]
    tool: str
    calibrated: bool = False
    options: tuple[str, ...] = ()


def _fp16(request: Request) -> tuple[str, ...]:
    save_model(to_fp16(load_model(request.source)), request.target)
    return ()


def _bf16(request: Request) -> tuple[str, ...]:
    save_model(convert_to_bf16(raise_opset(load_model(request.source), "bf16")), request.target)
    return ()


def _int8(request: Request) -> tuple[str, ...]:
    calibration = request.calibration
    quantize_static_int8(
        request.source,
        request.target,
        calibration_inputs(request.source, request.shapes, calibration),
        operators=calibration.operators,
        per_channel=calibration.per_channel,
        for_tensorrt=True,
        work_dir=request.work_dir,
    )
    return ()


BUILTIN: dict[str, Recipe] = {
    "fp16": Recipe(make=_fp16, tool="onnxruntime"),
    "bf16": Recipe(make=_bf16, tool="enginewatch"),
    "int8": Recipe(make=_int8, tool="onnxruntime", calibrated=True, options=("per_channel", "operators")),
}
