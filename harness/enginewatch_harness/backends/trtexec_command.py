"""Command lines of trtexec per major version of TensorRT (8, 9, 10, 11). Pure.

Every command states the whole measuring set: TensorRT 11 turned the defaults around (CUDA graph and spin-wait on,
transfers off), so the same short command measures different things on 10 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.trtexec_options import TrtexecOptions

PERCENTILES = (50, 90, 95, 99)
_MIN_ITERATIONS = 20
_PROFILE_SECONDS = 1

_FLAGS_8: dict[str, tuple[str, ...]] = {
    "fp32": ("--noTF32",),
    "tf32": (),
    "fp16": ("--fp16",),
    "int8": ("--int8",),
    "fp8": ("--fp8",),
    "best": ("--best",),
}
_FLAGS_10: dict[str, tuple[str, ...]] = {**_FLAGS_8, "bf16": ("--bf16",)}
_FLAGS_11: dict[str, tuple[str, ...]] = {"fp32": ("--noTF32",), "tf32": (), "fp16": (), "bf16": (), "int8": ()}
"""TensorRT 11 has no precision flags: fp16, bf16 and int8 are put into the graph first (``in_graph``)."""

_IN_GRAPH_11 = frozenset(("fp16", "bf16", "int8"))

_QUIET = ("--useCudaGraph", "--useSpinWait", "--noDataTransfers")
"""Accepted by every version; on 11 they are the defaults and change nothing."""
_CLASSIC_11 = ("--noCudaGraph", "--noSpinWait", "--includeDataTransfers")
"""Unknown to 10 and earlier, where they are the defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A trtexec that was found: its path, and its version as ``8.6.0``."""

    path: str
    version: str

    @property
    def major(self) -> int:
        """Major version of TensorRT."""
        return int(self.version.split(".")[0])


def precisions(major: int) -> tuple[str, ...]:
    """Return the precisions that a major version can build from an fp32 model."""
    return tuple(_flags(major))


def _flags(major: int) -> Mapping[str, tuple[str, ...]]:
    if major >= 11:
        return _FLAGS_11
    return _FLAGS_10 if major == 10 else _FLAGS_8


def precision_flags(tool: Tool, precision: str) -> tuple[str, ...]:
    """Return the flags of a precision.

    Raises:
        BackendError: ``unsupported_precision``: this version cannot build it.
    """
    known = _flags(tool.major)
    if precision not in known:
        raise BackendError(
            f"TensorRT {tool.version} cannot build precision {precision!r}; it builds {', '.join(known)}",
            code="unsupported_precision",
            remedy="take this precision out of the plan for the backend trtexec",
        )
    return known[precision]


def in_graph(tool: Tool, precision: str) -> bool:
    """Return whether the precision must be put into the model before it is built."""
    return tool.major >= 11 and precision in _IN_GRAPH_11


def shapes_spec(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return shapes as trtexec spells them: ``input:8x3x224x224``; a name with a colon is put in single quotes."""
    return ",".join(f"{_quoted(name)}:{'x'.join(str(dim) for dim in dims)}" for name, dims in sorted(shapes.items()))


def _quoted(name: str) -> str:
    return f"'{name}'" if ":" in name else name


def build_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    model: Path,
    engine: Path,
    precision: str,
    shapes: Mapping[str, tuple[int, ...]],
    layers: Path,
) -> list[str]:
    """Return the command that builds an engine and measures nothing.

    Args:
        tool: The trtexec at hand.
        options: Checked options.
        model: ONNX file, with the precision in the graph where ``in_graph`` says so.
        engine: File to write.
        precision: Requested precision.
        shapes: Shapes of the dynamic inputs; empty for a static model, which takes none.
        layers: File for the layer information.

    Raises:
        BackendError: ``unsupported_precision``.
    """
    return [
        tool.path,
        f"--onnx={model}",
        f"--saveEngine={engine}",
        "--skipInference",
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={layers}",
        *precision_flags(tool, precision),
        *_profile_shapes(shapes, options.max_batch),
        *_when(options.optimization_level, "--builderOptimizationLevel={}"),
        *_when(options.workspace_mib, "--memPoolSize=workspace:{}"),
        *_when(options.timing_cache, "--timingCacheFile={}"),
        f"--device={options.device}",
    ]


def _profile_shapes(shapes: Mapping[str, tuple[int, ...]], max_batch: int | None) -> list[str]:
    if not shapes:
        return []
    low = {name: (1, *dims[1:]) if max_batch else dims for name, dims in shapes.items()}
    high = {name: (max(max_batch, dims[0]), *dims[1:]) if max_batch else dims for name, dims in shapes.items()}
    return [
        f"--minShapes={shapes_spec(low)}",
        f"--optShapes={shapes_spec(shapes)}",
        f"--maxShapes={shapes_spec(high)}",
    ]


def _when(value: object, template: str) -> list[str]:
    return [] if value is None else [template.format(value)]


def run_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
    warmup_s: float,
    duration_s: float,
    times: Path,
    layers: Path,
) -> list[str]:
    """Return the command that measures; no profiler is on.

    Args:
        tool: The trtexec at hand.
        options: Checked options.
        engine: Engine file.
        shapes: Shapes of the dynamic inputs; empty for a static engine.
        warmup_s: Warm-up in seconds.
        duration_s: Least length of the measurement in seconds.
        times: File for one record per query.
        layers: File for the layer information.
    """
    return [
        tool.path,
        f"--loadEngine={engine}",
        *_inference_shapes(shapes),
        f"--warmUp={warmup_s * 1000:g}",
        f"--duration={duration_s:g}",
        f"--iterations={_MIN_ITERATIONS}",
        "--avgRuns=100",
        f"--percentile={','.join(map(str, PERCENTILES))}",
        f"--infStreams={options.streams}",
        *measuring_flags(tool, options.protocol),
        "--profilingVerbosity=detailed",
        f"--exportTimes={times}",
        f"--exportLayerInfo={layers}",
        f"--device={options.device}",
    ]


def measuring_flags(tool: Tool, protocol: str) -> tuple[str, ...]:
    """Return the flags of a measuring protocol: ``quiet`` or ``classic``."""
    if protocol == "quiet":
        return _QUIET
    return _CLASSIC_11 if tool.major >= 11 else ()


def profile_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
    profile: Path,
    layers: Path,
) -> list[str]:
    """Return the command that times layers, for a process of its own: the profiler adds synchronisations."""
    return [
        tool.path,
        f"--loadEngine={engine}",
        *_inference_shapes(shapes),
        f"--duration={_PROFILE_SECONDS}",
        "--separateProfileRun",
        "--dumpProfile",
        "--profilingVerbosity=detailed",
        f"--exportProfile={profile}",
        f"--exportLayerInfo={layers}",
        f"--device={options.device}",
    ]


def _inference_shapes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [f"--shapes={shapes_spec(shapes)}"] if shapes else []
