"""Precision → how it is put into a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from enginewatch_harness.backends.ort_bf16 import convert_to_bf16
from enginewatch_harness.graph_precision import modelopt
from enginewatch_harness.graph_precision.calibration import Calibration, calibration_inputs, static_shapes
from enginewatch_harness.graph_precision.fp8 import FP8_OPS, int8_to_fp8
from enginewatch_harness.graph_precision.load import load_model, save_model
from enginewatch_harness.graph_precision.opset import NEEDED, raise_opset
from enginewatch_harness.graph_precision.ort_tools import quantize_static_int8, to_fp16
from enginewatch_harness.graph_precision.weight_only import steps_in_fp32, weights_to_fp4, weights_to_int4


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
    return _finish(_static(request, "int8", request.calibration.operators), request)


def _fp8(request: Request) -> tuple[str, ...]:
    quantised = _static(request, "fp8", request.calibration.operators or FP8_OPS)
    return _finish(int8_to_fp8(quantised), request)


def _static(request: Request, precision: str, operators: tuple[str, ...]) -> onnx.ModelProto:
    source, target = _raised(request, precision), request.work_dir / "quantised.onnx"
    calibration = request.calibration
    quantize_static_int8(
        source,
        target,
        partial(calibration_inputs, request.source, request.shapes, calibration),
        operators=operators,
        per_channel=calibration.per_channel,
        for_tensorrt=True,
        work_dir=request.work_dir,
        precision=precision,
    )
    return load_model(target)


def _raised(request: Request, precision: str) -> Path:
    """Write the source with the operator set that a precision needs, under its own name for messages."""
    target = request.work_dir / "raised" / request.source.name
    target.parent.mkdir()
    save_model(raise_opset(load_model(request.source), precision, request.calibration.rest), target)
    return target


def _int4(request: Request) -> tuple[str, ...]:
    model = raise_opset(load_model(request.source), "int4")
    converted, notes = weights_to_int4(model, request.calibration.block_size)
    return (*notes, *_finish(converted, request))


def _fp4(request: Request) -> tuple[str, ...]:
    converted, notes = weights_to_fp4(raise_opset(load_model(request.source), "fp4"))
    return (*notes, *_finish(converted, request))


def _finish(quantised: onnx.ModelProto, request: Request) -> tuple[str, ...]:
    """Write a quantised graph with the rest of it in the asked-for format."""
    rest = request.calibration.rest
    save_model(to_fp16(quantised, keep=steps_in_fp32(quantised)) if rest == "fp16" else quantised, request.target)
    return (f"what is not quantised runs in {rest}",)


def _autocast(precision: str) -> Callable[[Request], tuple[str, ...]]:
    def make(request: Request) -> tuple[str, ...]:
        source = _raised(request, precision) if precision in NEEDED else request.source
        inputs = partial(calibration_inputs, request.source, request.shapes, request.calibration)
        save_model(modelopt.autocast(source, precision, inputs, request.work_dir), request.target)
        return ()

    return make


def _modelopt(precision: str) -> Callable[[Request], tuple[str, ...]]:
    def make(request: Request) -> tuple[str, ...]:
        calibration = request.calibration
        source, target = _raised(request, precision), request.work_dir / "quantised.onnx"
        modelopt.quantize(
            source,
            target,
            precision,
            partial(calibration_inputs, request.source, request.shapes, calibration),
            shapes=static_shapes(request.source, request.shapes),
            operators=calibration.operators,
            block_size=calibration.block_size,
            rest=calibration.rest,
        )
        made = load_model(target)
        if precision == "int4":
            return _finish(made, request)
        save_model(made, request.target)
        return (f"what is not quantised runs in {calibration.rest}",)

    return make


BUILTIN: dict[str, Recipe] = {
    "fp16": Recipe(make=_fp16, tool="onnxruntime"),
    "bf16": Recipe(make=_bf16, tool="enginewatch"),
    "int8": Recipe(make=_int8, tool="onnxruntime", calibrated=True, options=("per_channel", "operators", "rest")),
    "fp8": Recipe(make=_fp8, tool="onnxruntime", calibrated=True, options=("per_channel", "operators", "rest")),
    "int4": Recipe(make=_int4, tool="enginewatch", options=("block_size", "rest")),
    "fp4": Recipe(make=_fp4, tool="enginewatch", options=("rest",)),
}
"""What a plain installation can do."""

MODELOPT: dict[str, Recipe] = {
    **{name: Recipe(make=_autocast(name), tool="modelopt", calibrated=True) for name in modelopt.CASTS},
    **{
        name: Recipe(make=_modelopt(name), tool="modelopt", calibrated=True, options=("operators", "rest"))
        for name in ("int8", "fp8")
    },
    "int4": Recipe(make=_modelopt("int4"), tool="modelopt", options=("block_size", "rest")),
}
"""What ModelOpt does better. FP4 is not among it: its ONNX quantiser does not know NVFP4 (0.47)."""
