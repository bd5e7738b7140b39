"""Build an engine with TensorRT's or TensorRT-RTX's Python API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.backends.tensorrt_log import LogKeeper, explain, logger
from enginewatch_harness.backends.tensorrt_module import is_rtx, member, require
from enginewatch_harness.backends.tensorrt_options import HARDWARE, TensorrtOptions
from enginewatch_harness.backends.tensorrt_progress import BuildPhase, BuildProgress, progress_monitor
from enginewatch_harness.backends.tensorrt_tensors import TensorSpec, input_shapes
from enginewatch_harness.backends.tensorrt_timing_cache import attach, keep
from enginewatch_harness.backends.trtexec_shapes import profile_range, tuned_for
from enginewatch_harness.parse.trtexec_facts import BuildFacts, read_build

_WEAK_FLAGS = {"fp32": None, "tf32": None, "fp16": "FP16", "bf16": "BF16"}
"""Precision → flag of a weakly typed network; only TensorRT 10 has them."""

_MIB = 1 << 20
_READ_LOG = "read the build's log: its first error names the layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        model: ONNX file; its graph says the precision, unless flags do.
        precision: Requested precision.
        shapes: Shapes of the case.
        options: Checked options.
        what: For messages.
        report: Hears how many steps are done.
    """

    model: Path
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: TensorrtOptions
    what: str
    report: Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A serialised engine.

    Attributes:
        plan: Its bytes, in memory of TensorRT.
        facts: What the log said of time and memory.
        phases: How long each phase took.
        timing_cache: What was stored about it; ``None``: there was none.
        mark: Where its part of the log begins.
    """

    plan: memoryview
    facts: BuildFacts
    phases: tuple[BuildPhase, ...]
    timing_cache: Json | None
    mark: int

    def details(self) -> Json:
        """Return what is stored with the engine."""
        return {
            "build": {name: value for name, value in asdict(self.facts).items() if value is not None},
            "phases": [
                {
                    "name": phase.name,
                    "parent": phase.parent,
                    "passes": phase.passes,
                    "steps": phase.steps,
                    "duration_ms": phase.duration_ns / 1e6,
                }
                for phase in self.phases
            ],
            "timing_cache": self.timing_cache,
        }


def build_engine(module: ModuleType, request: BuildRequest) -> Built:
    """Build an engine that cannot be refitted, with details for the inspector.

    Raises:
        BackendError: With the code that the library's own words stand for; ``timeout`` when it took too long.
    """
    log, keeper = logger(module)
    mark = len(keeper.lines)
    builder = module.Builder(log)
    if builder is None:
        raise explain(keeper.since(mark), request.what, code="build_failed", remedy=_READ_LOG)
    network = _network(module, builder, request)
    parser = module.OnnxParser(network, log)
    if not parser.parse_from_file(str(request.model)):
        remedy = "export the model again, and check it with `python -m onnx.checker`"
        raise explain(keeper.since(mark), request.what, code="model_corrupt", remedy=remedy)
    config = builder.create_builder_config()
    _configure(module, config, request)
    _add_shapes(builder, config, network, request, keeper, mark)
    cache = attach(module, config, request.options)
    progress = BuildProgress(request.options.build_timeout_s, request.report)
    monitor = progress_monitor(module, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(progress, keeper, mark, request)
    return Built(
        plan=memoryview(plan),
        facts=read_build(keeper.since(mark), {}),
        phases=tuple(progress.phases()),
        timing_cache=keep(config, cache),
        mark=mark,
    )


def _failed(progress: BuildProgress, keeper: LogKeeper, mark: int, request: BuildRequest) -> BackendError:
    if progress.cancelled:
        return BackendError(
            f"{request.what} was cancelled after {request.options.build_timeout_s:g} s, {progress.steps} steps done",
            code="timeout",
            remedy="raise build_timeout_s, or lower optimization_level",
        )
    return explain(keeper.since(mark), request.what, code="build_failed", remedy=_READ_LOG)


def _network(module: ModuleType, builder: Any, request: BuildRequest) -> Any:  # noqa: ANN401
    if request.options.by_flags:
        return builder.create_network(0)
    flag = member(module, "NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
    return builder.create_network(0 if flag is None else 1 << int(flag))


def _configure(module: ModuleType, config: Any, request: BuildRequest) -> None:  # noqa: ANN401
    options = request.options
    config.profiling_verbosity = require(module, "ProfilingVerbosity", "DETAILED", "reading layers")
    tf32 = member(module, "BuilderFlag", "TF32")
    if tf32 is not None:
        (config.clear_flag if request.precision == "fp32" else config.set_flag)(tf32)
    if options.by_flags:
        _set_weak_precision(module, config, request.precision)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    for name, value in (("max_num_tactics", options.max_tactics), ("max_aux_streams", options.aux_streams)):
        if value is not None:
            _set(module, config, name, value)
    if options.workspace_mib is not None:
        pool = require(module, "MemoryPoolType", "WORKSPACE", "workspace_mib")
        config.set_memory_pool_limit(pool, options.workspace_mib * _MIB)
    if options.sparsity == "enable":
        config.set_flag(require(module, "BuilderFlag", "SPARSE_WEIGHTS", "sparsity"))
    if options.version_compatible:
        config.set_flag(require(module, "BuilderFlag", "VERSION_COMPATIBLE", "version_compatible"))
    monitor = member(module, "BuilderFlag", "MONITOR_MEMORY")
    if monitor is not None:
        config.set_flag(monitor)
    if is_rtx(module):
        _set_compute_capabilities(module, config, options.compute_capabilities)
    elif (level := HARDWARE[options.hardware_compatibility]) is not None:
        config.hardware_compatibility_level = require(
            module, "HardwareCompatibilityLevel", level, "hardware_compatibility"
        )


def _set(module: ModuleType, config: Any, name: str, value: int) -> None:  # noqa: ANN401
    if not hasattr(config, name):
        raise BackendError(
            f"{module.__name__} {module.__version__} has no IBuilderConfig.{name}",
            code="build_failed",
            remedy="take the option out of the plan for this backend",
        )
    setattr(config, name, value)


def _set_weak_precision(module: ModuleType, config: Any, precision: str) -> None:  # noqa: ANN401
    name = _WEAK_FLAGS.get(precision, precision.upper())
    if name is None:
        return
    flag = member(module, "BuilderFlag", name)
    if precision not in _WEAK_FLAGS or flag is None:
        raise BackendError(
            f"{module.__name__} {module.__version__} has no flag for precision {precision!r} in a weakly typed network",
            code="unsupported_precision",
            remedy='set precision_by = "graph"',
        )
    config.set_flag(flag)


def _set_compute_capabilities(module: ModuleType, config: Any, wanted: tuple[str, ...]) -> None:  # noqa: ANN401
    """Name the GPUs to build for; without any, TensorRT-RTX takes its default, which needs no GPU either."""
    if not wanted:
        return
    config.num_compute_capabilities = len(wanted)
    for index, version in enumerate(wanted):
        name = "CURRENT" if version == "current" else f"SM{version.replace('.', '')}"
        capability = require(module, "ComputeCapability", name, "compute_capabilities")
        if not config.set_compute_capability(capability, index):
            raise BackendError(
                f"{module.__name__} refused compute capability {version!r}",
                code="build_failed",
                remedy='"current" stands alone and needs a GPU; take it out of compute_capabilities',
            )


def _add_shapes(
    builder: Any,  # noqa: ANN401
    config: Any,  # noqa: ANN401
    network: Any,  # noqa: ANN401
    request: BuildRequest,
    keeper: LogKeeper,
    mark: int,
) -> None:
    """Add one optimisation profile for the inputs with an open dimension; a static model gets none."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    specs = [
        TensorSpec(name=item.name, dtype=item.dtype.name, shape=tuple(item.shape), is_input=True) for item in tensors
    ]
    shapes = input_shapes(specs, request.shapes, request.what)
    dynamic = [spec.name for spec in specs if -1 in spec.shape]
    declared = {spec.name: tuple("?" if dim < 0 else dim for dim in spec.shape) for spec in specs}
    wanted = {name: shapes[name] for name in dynamic}
    low, high = profile_range(wanted, request.options, declared)
    if not dynamic:
        return
    values = [item.name for item in tensors if item.name in dynamic and item.is_shape_tensor]
    if values:
        raise BackendError(
            f"{request.what}: input {values[0]!r} says a shape, and its values are not in a plan",
            code="unsupported_operator",
            remedy="make it a constant when you export the model",
        )
    best = tuned_for(wanted, request.options, declared)
    profile = builder.create_optimization_profile()
    for name in dynamic:
        profile.set_shape(name, low[name], best[name], high[name])
    if config.add_optimization_profile(profile) < 0:
        remedy = "correct shapes in the plan, or raise max_batch"
        raise explain(keeper.since(mark), request.what, code="shape_outside_profile", remedy=remedy)
