"""Options of the trtexec backend, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read

PROTOCOLS = ("quiet", "classic")
"""``quiet``: CUDA graph, spin-wait, no transfers (0.13 % run-to-run on an H200). ``classic``: none of them (5 %)."""

PRECISION_BY = ("auto", "flags", "graph")
SPARSITY = ("disable", "enable", "force")
HARDWARE = ("none", "ampere+", "sameComputeCapability")
GRAPH_TOOLS = ("auto", "builtin", "modelopt")
RESTS = ("fp16", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecOptions:
    """Checked options.

    Attributes:
        trtexec: Path of the tool, ``tensorrt_rtx`` included; ``None``: looked up.
        protocol: Which set of measuring options.
        cuda_graph: Launch a CUDA graph; ``None``: as the protocol says.
        spin_wait: Wait for the GPU in a busy loop; ``None``: as the protocol says.
        data_transfers: Copy inputs and outputs for every inference; ``None``: as the protocol says.
        streams: Inferences in flight at once; above 1 latencies include waiting.
        multithreading: Drive each stream from a thread of its own.
        idle_ms: Pause between two inferences.
        managed_memory: Use managed memory instead of host and device copies.
        optimization_level: Builder optimisation level, 0 to 5; ``None``: the tool's default.
        max_tactics: Most tactics to time for a layer (10.4 and later); ``None``: the tool decides.
        tiling_level: Tiling optimisation level, 0 to 3 (10.8 and later); ``None``: the tool's default.
        aux_streams: Most auxiliary streams for each inference stream; ``None``: the tool decides.
        workspace_mib: Limit of the builder's workspace; ``None``: the device's memory.
        dla_sram_mib: Limit of a DLA's own memory; ``None``: the tool's default.
        tactic_shared_mem_kib: Limit of shared memory for tactics (10.0 and later); ``None``: the device's.
        sparsity: Sparse tactics: ``disable``, ``enable`` (where weights are sparse) or ``force`` (changes the weights).
        hardware_compatibility: Other GPUs that the engine must run on: ``none``, ``ampere+`` or
            ``sameComputeCapability`` (10.9 and later).
        version_compatible: The engine must run on later versions of TensorRT too.
        exclude_lean_runtime: Leave the lean runtime out of a version-compatible engine.
        tactic_sources: Libraries to add to or take from the builder's: ``["-CUDNN", "+CUBLAS"]``.
        plugins: Libraries of plugins to load: files, or names that the dynamic loader finds.
        timing_cache: File of tactic timings, read and written by builds; ``None``: none, so builds vary.
        runtime_cache: File of compiled kernels that ``tensorrt_rtx`` reads and writes; ``None``: it compiles them
            in the first inferences of every run, inside the warm-up.
        strict_timing_cache: A tactic that is not in the timing cache is an error (10.0 and later).
        precision_by: How a precision is asked for: ``flags``, a strongly typed ``graph``, or ``auto``: by flags where
            the version has them (before 11), with int8, fp8 and int4 calibrated into the graph besides.
        quantize_block: Weights that share a scale (int4), for graphs.
        quantize_rest: Format of what a quantised graph does not quantise.
        graph_tool: Who puts the precision into a graph; ``auto``: ModelOpt where it is installed.
        device: CUDA device index.
        min_shapes: Input → smallest dimensions of the optimisation profile; absent ones follow ``max_batch``.
        max_shapes: Input → largest dimensions of the optimisation profile; absent ones follow ``max_batch``.
        max_batch: Largest batch of the optimisation profile, from 1; ``None``: exactly the case's shapes.
        opt_batch: Batch that the profile is tuned for, with ``max_batch``: one engine then serves every batch of the
            workload; ``None``: each case's own.
        build_timeout_s: A build that takes longer is stopped.
        profile: Time layers in a process of its own after measuring.
        nsys: Look at some inferences under Nsight Systems after measuring, in a process of its own.
        accuracy: Compare the outputs with the fp32 reference's after measuring.
    """

    trtexec: str | None = None
    protocol: str = "quiet"
    cuda_graph: bool | None = None
    spin_wait: bool | None = None
    data_transfers: bool | None = None
    streams: int = 1
    multithreading: bool = False
    idle_ms: float = 0.0
    managed_memory: bool = False
    optimization_level: int | None = None
    max_tactics: int | None = None
    tiling_level: int | None = None
    aux_streams: int | None = None
    workspace_mib: int | None = None
    dla_sram_mib: int | None = None
    tactic_shared_mem_kib: int | None = None
    sparsity: str = "disable"
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    tactic_sources: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    timing_cache: str | None = None
    runtime_cache: str | None = None
    strict_timing_cache: bool = False
    precision_by: str = "auto"
    quantize_block: int = 128
    quantize_rest: str = "fp16"
    graph_tool: str = "auto"
    device: int = 0
    min_shapes: read.Shapes = field(default_factory=dict)
    max_shapes: read.Shapes = field(default_factory=dict)
    max_batch: int | None = None
    opt_batch: int | None = None
    build_timeout_s: float = 3600.0
    profile: bool = True
    nsys: bool = False
    accuracy: bool = True

    def measuring(self) -> dict[str, bool]:
        """Return CUDA graph, spin-wait and transfers as asked for: the protocol, and what the plan sets beside it."""
        quiet = self.protocol == "quiet"
        return {
            "cuda_graph": quiet if self.cuda_graph is None else self.cuda_graph,
            "spin_wait": quiet if self.spin_wait is None else self.spin_wait,
            "data_transfers": not quiet if self.data_transfers is None else self.data_transfers,
        }

    def building(self) -> Json:
        """Return what an engine depends on, where it is not the default; of ``plugins`` that is their content."""
        default = TrtexecOptions()
        names = (
            "max_tactics",
            "tiling_level",
            "aux_streams",
            "dla_sram_mib",
            "tactic_shared_mem_kib",
            "sparsity",
            "hardware_compatibility",
            "version_compatible",
            "exclude_lean_runtime",
            "tactic_sources",
            "strict_timing_cache",
            "min_shapes",
            "max_shapes",
        )
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(default, name)}
        return {name: _plain(value) for name, value in chosen.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - values of options go into JSON
    if isinstance(value, dict):
        return {key: list(dims) for key, dims in sorted(value.items())}
    return list(value) if isinstance(value, tuple) else value


def parse_options(options: Json) -> TrtexecOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), a value of the wrong type or range, or options
            that contradict each other.
    """
    read.refuse_unknown(options, "trtexec")
    default = TrtexecOptions()
    parsed = TrtexecOptions(
        trtexec=read.optional_text(options, "trtexec"),
        protocol=read.choice(options, "protocol", default.protocol, PROTOCOLS),
        cuda_graph=read.optional_flag(options, "cuda_graph"),
        spin_wait=read.optional_flag(options, "spin_wait"),
        data_transfers=read.optional_flag(options, "data_transfers"),
        streams=read.integer(options, "streams", default.streams, low=1),
        multithreading=read.flag(options, "multithreading", default.multithreading),
        idle_ms=read.positive(options, "idle_ms", default.idle_ms),
        managed_memory=read.flag(options, "managed_memory", default.managed_memory),
        optimization_level=read.optional_integer(options, "optimization_level", low=0, high=5),
        max_tactics=read.optional_integer(options, "max_tactics", low=1, high=1 << 16),
        tiling_level=read.optional_integer(options, "tiling_level", low=0, high=3),
        aux_streams=read.optional_integer(options, "aux_streams", low=0, high=64),
        workspace_mib=read.optional_integer(options, "workspace_mib", low=1, high=1 << 20),
        dla_sram_mib=read.optional_integer(options, "dla_sram_mib", low=1, high=1 << 20),
        tactic_shared_mem_kib=read.optional_integer(options, "tactic_shared_mem_kib", low=1, high=1 << 20),
        sparsity=read.choice(options, "sparsity", default.sparsity, SPARSITY),
        hardware_compatibility=read.choice(options, "hardware_compatibility", default.hardware_compatibility, HARDWARE),
        version_compatible=read.flag(options, "version_compatible", default.version_compatible),
        exclude_lean_runtime=read.flag(options, "exclude_lean_runtime", default.exclude_lean_runtime),
        tactic_sources=_tactics(options),
        plugins=read.names(options, "plugins"),
        timing_cache=read.optional_text(options, "timing_cache"),
        runtime_cache=read.optional_text(options, "runtime_cache"),
        strict_timing_cache=read.flag(options, "strict_timing_cache", default.strict_timing_cache),
        precision_by=read.choice(options, "precision_by", default.precision_by, PRECISION_BY),
        quantize_block=read.integer(options, "quantize_block", default.quantize_block, low=16),
        quantize_rest=read.choice(options, "quantize_rest", default.quantize_rest, RESTS),
        graph_tool=read.choice(options, "graph_tool", default.graph_tool, GRAPH_TOOLS),
        device=read.integer(options, "device", default.device, low=0),
        min_shapes=read.shapes(options, "min_shapes"),
        max_shapes=read.shapes(options, "max_shapes"),
        max_batch=read.optional_integer(options, "max_batch", low=1, high=1 << 16),
        opt_batch=read.optional_integer(options, "opt_batch", low=1, high=1 << 16),
        build_timeout_s=read.positive(options, "build_timeout_s", default.build_timeout_s),
        profile=read.flag(options, "profile", default.profile),
        nsys=read.flag(options, "nsys", default.nsys),
        accuracy=read.flag(options, "accuracy", default.accuracy),
    )
    _refuse_contradictions(parsed)
    return parsed


def _refuse_contradictions(options: TrtexecOptions) -> None:
    if options.exclude_lean_runtime and not options.version_compatible:
        raise PlanError("option exclude_lean_runtime needs version_compatible = true", remedy="set it, or drop both")
    read.refuse_contradictions(
        strict_timing_cache=options.strict_timing_cache,
        timing_cache=options.timing_cache,
        opt_batch=options.opt_batch,
        max_batch=options.max_batch,
    )


def _tactics(options: Json) -> tuple[str, ...]:
    sources = read.names(options, "tactic_sources")
    for source in sources:
        if len(source) < 2 or source[0] not in "+-" or not source[1:].replace("_", "").isalnum():
            raise PlanError(
                f"option tactic_sources has {source!r}: each is + or - and a library", remedy='write it as "-CUDNN"'
            )
    return sources
