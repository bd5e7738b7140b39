"""Command lines of trtexec per version of TensorRT (8.6 to 11), and of tensorrt_rtx. Pure.

Every command states the whole measuring set, as far as it differs from the version's defaults: TensorRT 11 turned
them around (CUDA graph and spin-wait on, transfers off), so the same short command measures different things on 10
and 11. What was in effect is read back from the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.trtexec_flags import Tool as Tool
from enginewatch_harness.backends.trtexec_flags import require
from enginewatch_harness.backends.trtexec_options import TrtexecOptions
from enginewatch_harness.backends.trtexec_shapes import Declared, inference_shapes, profile_shapes, quoted

PERCENTILES = (50, 90, 95, 99)
_MIN_ITERATIONS = 20
_PROFILE_SECONDS = 1
_TRACE_SECONDS = 0.001
"""Under a profiler the number of inferences decides; with none at all trtexec could end before the first."""

_BY_FLAG = ("fp16", "bf16", "int8", "fp8", "int4", "best")
_IN_GRAPH = ("fp16", "bf16", "int8", "fp8", "int4", "fp4")
_QUANTISED = ("int8", "fp8", "int4")
_AS_GIVEN = ("fp32", "tf32")


def precisions(tool: Tool, precision_by: str = "auto") -> tuple[str, ...]:
    """Return the precisions that a tool can build from an fp32 model.

    A name is no promise for every GPU or model: fp8 needs compute capability 8.9, fp4 10.0, and ``int4`` by flag needs
    a model that is quantised already.
    """
    if tool.strongly_typed_only or precision_by == "graph":
        return (*_AS_GIVEN, *_IN_GRAPH)
    known = tuple(name for name in _BY_FLAG if tool.knows(f"--{name}"))
    return (*_AS_GIVEN, *known)


def in_graph(tool: Tool, precision: str, precision_by: str = "auto") -> bool:
    """Return whether the precision must be put into the model before it is built.

    A flag alone quantises with made-up ranges, so its outputs are wrong: ``auto`` calibrates and quantises the graph
    for weakly typed tools too, which then need the flag to accept it.
    """
    if tool.strongly_typed_only or precision_by == "graph":
        return precision in _IN_GRAPH
    return precision in _QUANTISED and precision_by == "auto"


def weakly_typed(tool: Tool, precision_by: str) -> bool:
    """Return whether the builder chooses formats by flags, of what a graph leaves open."""
    return not tool.strongly_typed_only and precision_by != "graph"


def precision_flags(tool: Tool, precision: str, precision_by: str = "auto", rest: str = "fp16") -> tuple[str, ...]:
    """Return the flags of a precision; TF32 is a switch of the builder, whatever the graph says.

    Args:
        tool: The tool at hand.
        precision: Requested precision.
        precision_by: The option of that name.
        rest: Format that layers which are not quantised may have, where the builder chooses.

    Raises:
        BackendError: ``unsupported_precision``: this version cannot build it; ``unknown_flag``: it builds by flags
            alone, or by graphs alone.
    """
    if precision_by == "flags" and tool.strongly_typed_only:
        raise BackendError(
            f"option precision_by = 'flags': {tool.product} has no precision flags",
            code="unknown_flag",
            remedy='set precision_by = "graph", or leave it out',
        )
    if precision_by == "graph" and not tool.strongly_typed_only:
        require(tool, "--stronglyTyped", "precision_by")
    known = precisions(tool, precision_by)
    if precision not in known:
        raise BackendError(
            f"{tool.product} cannot build precision {precision!r}; it builds {', '.join(known)}",
            code="unsupported_precision",
            remedy="take this precision out of the plan for the backend trtexec",
        )
    typed = ("--stronglyTyped",) if precision_by == "graph" and not tool.strongly_typed_only else ()
    if precision in _AS_GIVEN:
        no_tf32 = precision == "fp32" and (not tool.rtx or tool.knows("--noTF32"))
        return (*typed, "--noTF32") if no_tf32 else typed
    if not weakly_typed(tool, precision_by):
        return typed
    half = precision in _QUANTISED and precision_by == "auto" and rest == "fp16"
    return (f"--{precision}", "--fp16") if half else (f"--{precision}",)


def build_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    model: Path,
    engine: Path,
    precision: str,
    shapes: Mapping[str, tuple[int, ...]],
    layers: Path,
    declared: Declared | None = None,
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
        declared: Dimensions as the model declares them: ``max_batch`` concerns open first dimensions alone.

    Raises:
        BackendError: ``unsupported_precision``; ``unknown_flag``: an option that this version does not know.
        PlanError: ``min_shapes`` or ``max_shapes`` do not fit.
    """
    return [
        tool.path,
        f"--onnx={model}",
        f"--saveEngine={engine}",
        *_known(tool, "--skipInference"),
        "--profilingVerbosity=detailed",
        f"--exportLayerInfo={layers}",
        *precision_flags(tool, precision, options.precision_by, options.quantize_rest),
        *profile_shapes(shapes, options, declared),
        *_builder_flags(tool, options),
        *_memory_pools(tool, options),
        f"--device={options.device}",
    ]


def _known(tool: Tool, flag: str) -> list[str]:
    return [flag] if tool.knows(flag) else []


def _builder_flags(tool: Tool, options: TrtexecOptions) -> list[str]:
    default = TrtexecOptions()
    wanted = (
        ("optimization_level", "--builderOptimizationLevel", str(options.optimization_level)),
        ("max_tactics", "--maxTactics", str(options.max_tactics)),
        ("tiling_level", "--tilingOptimizationLevel", str(options.tiling_level)),
        ("aux_streams", "--maxAuxStreams", str(options.aux_streams)),
        ("sparsity", "--sparsity", options.sparsity),
        ("hardware_compatibility", "--hardwareCompatibilityLevel", options.hardware_compatibility),
        ("version_compatible", "--versionCompatible", None),
        ("exclude_lean_runtime", "--excludeLeanRuntime", None),
        ("tactic_sources", "--tacticSources", ",".join(options.tactic_sources)),
        ("timing_cache", "--timingCacheFile", options.timing_cache),
        ("strict_timing_cache", "--errorOnTimingCacheMiss", None),
    )
    flags: list[str] = []
    for option, flag, value in wanted:
        if getattr(options, option) != getattr(default, option):
            require(tool, flag, option, value)
            flags.append(flag if value is None else f"{flag}={value}")
    return [*flags, *_plugins(tool, options)]


def _plugins(tool: Tool, options: TrtexecOptions) -> list[str]:
    if options.plugins:
        require(tool, "--staticPlugins", "plugins")
    return [f"--staticPlugins={path}" for path in options.plugins]


def _memory_pools(tool: Tool, options: TrtexecOptions) -> list[str]:
    pools: list[str] = []
    if options.workspace_mib is not None:
        pools.append(f"workspace:{options.workspace_mib}")
    if options.dla_sram_mib is not None:
        pools.append(f"dlaSRAM:{options.dla_sram_mib}")
    if options.tactic_shared_mem_kib is not None:
        require(tool, "--memPoolSize", "tactic_shared_mem_kib", "tacticSharedMem")
        pools.append(f"tacticSharedMem:{options.tactic_shared_mem_kib}K")  # without the K it would be MiB
    if pools:
        require(tool, "--memPoolSize", "workspace_mib")
    return [f"--memPoolSize={','.join(pools)}"] if pools else []


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
        *inference_shapes(shapes),
        f"--warmUp={warmup_s * 1000:g}",
        f"--duration={duration_s:g}",
        f"--iterations={_MIN_ITERATIONS}",
        "--avgRuns=100",
        f"--percentile={','.join(map(str, PERCENTILES))}",
        f"--infStreams={options.streams}",
        *measuring_flags(tool, **options.measuring()),
        *(["--threads"] if options.multithreading else []),
        *([f"--idleTime={options.idle_ms:g}"] if options.idle_ms else []),
        *(["--useManagedMemory"] if options.managed_memory else []),
        "--profilingVerbosity=detailed",
        f"--exportTimes={times}",
        f"--exportLayerInfo={layers}",
        *_plugins(tool, options),
        *_runtime_cache(tool, options),
        f"--device={options.device}",
    ]


def _runtime_cache(tool: Tool, options: TrtexecOptions) -> list[str]:
    if options.runtime_cache is None:
        return []
    require(tool, "--runtimeCacheFile", "runtime_cache")
    return [f"--runtimeCacheFile={options.runtime_cache}"]


def measuring_flags(tool: Tool, *, cuda_graph: bool, spin_wait: bool, data_transfers: bool) -> tuple[str, ...]:
    """Return the flags that bring about a measuring set, whatever the version's defaults are."""
    switches = (
        (cuda_graph, "--useCudaGraph", "--noCudaGraph"),
        (spin_wait, "--useSpinWait", "--noSpinWait"),
        (not data_transfers, "--noDataTransfers", "--includeDataTransfers"),
    )
    flags: list[str] = []
    for fast, flag, opposite in switches:
        if tool.idle(flag):
            flags += [] if fast else [opposite]
        elif fast:
            flags.append(flag)
    return tuple(flags)


def profile_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
    profile: Path,
    layers: Path,
) -> list[str]:
    """Return the command that times layers, for a process of its own: the profiler adds synchronisations.

    Without a CUDA graph: its launch would hide the layers.
    """
    return [
        tool.path,
        f"--loadEngine={engine}",
        *inference_shapes(shapes),
        f"--duration={_PROFILE_SECONDS}",
        *measuring_flags(tool, cuda_graph=False, spin_wait=False, data_transfers=False),
        *([] if tool.idle("--separateProfileRun") else ["--separateProfileRun"]),
        "--dumpProfile",
        "--profilingVerbosity=detailed",
        f"--exportProfile={profile}",
        f"--exportLayerInfo={layers}",
        *_plugins(tool, options),
        f"--device={options.device}",
    ]


def trace_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
    inferences: int,
) -> list[str]:
    """Return a short run with the measuring set, for a profiler around it; its times are not read."""
    return [
        tool.path,
        f"--loadEngine={engine}",
        *inference_shapes(shapes),
        "--warmUp=0",
        f"--duration={_TRACE_SECONDS}",
        f"--iterations={inferences}",
        f"--infStreams={options.streams}",
        *measuring_flags(tool, **options.measuring()),
        *(["--threads"] if options.multithreading else []),
        *(["--useManagedMemory"] if options.managed_memory else []),
        "--profilingVerbosity=detailed",
        *_plugins(tool, options),
        *_runtime_cache(tool, options),
        f"--device={options.device}",
    ]


def infer_command(
    tool: Tool,
    options: TrtexecOptions,
    *,
    engine: Path,
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Mapping[str, str],
    output: Path,
) -> list[str]:
    """Return the command that runs given inputs once and writes the outputs.

    Args:
        tool: The trtexec at hand.
        options: Checked options.
        engine: Engine file.
        shapes: Shapes of the dynamic inputs.
        inputs: Input → file of raw values, by a name without colon, comma and quote.
        output: File for the outputs.
    """
    spec = ",".join(f"{quoted(name)}:{file}" for name, file in sorted(inputs.items()))
    return [
        tool.path,
        f"--loadEngine={engine}",
        *inference_shapes(shapes),
        f"--loadInputs={spec}",
        "--iterations=1",
        "--duration=0",
        "--warmUp=0",
        "--infStreams=1",
        *measuring_flags(tool, cuda_graph=False, spin_wait=False, data_transfers=True),
        f"--exportOutput={output}",
        *_plugins(tool, options),
        f"--device={options.device}",
    ]
