"""Options of the backends ``tensorrt`` and ``tensorrt_rtx``, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read
from enginewatch_harness.graph_precision import Calibration, parse_calibration

PROTOCOLS = ("quiet", "classic")
"""``quiet``: CUDA graph, spin-wait, no transfers. ``classic``: none of them; as in the backend ``trtexec``."""

PRECISION_BY = ("auto", "flags", "graph")
SPARSITY = ("disable", "enable")
HARDWARE = {"none": None, "ampere+": "AMPERE_PLUS", "sameComputeCapability": "SAME_COMPUTE_CAPABILITY"}
"""As trtexec spells it → name in ``HardwareCompatibilityLevel``."""

KERNEL_SPECIALIZATION = ("eager", "lazy", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorrtOptions:
    """Checked options.

    Attributes:
        protocol: Which set of measuring options.
        cuda_graph: Launch a CUDA graph; ``None``: as the protocol says.
        spin_wait: Wait for the GPU in a busy loop; ``None``: as the protocol says.
        data_transfers: Copy inputs and outputs for every inference; ``None``: as the protocol says.
        optimization_level: Builder optimisation level, 0 to 5; ``None``: TensorRT's default.
        max_tactics: Most tactics to time for a layer; ``None``: TensorRT decides.
        aux_streams: Most auxiliary streams; ``None``: TensorRT decides.
        workspace_mib: Limit of the builder's workspace; ``None``: the device's memory.
        timing_cache: File of tactic timings, read and written by builds; ``None``: none, so builds vary.
        strict_timing_cache: A tactic that is not in the timing cache is an error, and the file stays as it is.
        device: CUDA device index.
        min_shapes: Input → smallest dimensions of the optimisation profile; absent ones follow ``max_batch``.
        max_shapes: Input → largest dimensions of the optimisation profile; absent ones follow ``max_batch``.
        max_batch: Largest batch of the optimisation profile, from 1; ``None``: exactly the case's shapes.
        opt_batch: Batch that the profile is tuned for, with ``max_batch``: one engine then serves every batch of the
            workload; ``None``: each case's own.
        precision_by: ``auto`` and ``graph``: a strongly typed graph says the precision. ``flags``: the builder's flags
            do; only TensorRT 10 has them.
        sparsity: ``enable``: sparse tactics where weights are sparse.
        hardware_compatibility: Other GPUs that the engine must run on: ``none``, ``ampere+`` or
            ``sameComputeCapability``; TensorRT-RTX has ``compute_capabilities`` instead.
        version_compatible: Build an engine for later versions too; needs the lean runtime's library.
        compute_capabilities: TensorRT-RTX: GPUs to build for, as ``8.9``; empty: its default.
        kernel_specialization: TensorRT-RTX: when kernels for a dynamic shape are compiled; with ``lazy`` latency
            improves during the run.
        runtime_cache: TensorRT-RTX: keep compiled kernels from run to run.
        nvtx: Mark each inference for Nsight Systems; phases are always marked where the package ``nvtx`` is installed.
        build_timeout_s: A build that takes longer is cancelled.
        profile: Time layers after measuring, in an execution context of its own.
        nsys: Look at some inferences under Nsight Systems after measuring, in a process of its own; without it with
            CUPTI, in this one.
        accuracy: Compare the outputs with the fp32 reference's after measuring.
        calibration_samples: Inputs that a calibrated precision sees.
        calibration_seed: Seed of generated inputs.
        calibration_data: Inputs of your own: an ``.npz`` file or a folder.
        per_channel: Quantise weights per channel.
        quantize_ops: Operators to quantise; empty: the default of the precision.
        quantize_block: Weights that share a scale (int4).
        quantize_rest: Format of what a quantised graph does not quantise.
        graph_tool: Who puts the precision into the graph; ``auto``: ModelOpt where it is installed.
        inject_delay_ms: For tests of the gate: busy-wait this long inside each timed inference.
        inject_delay_pct: The same as a percentage of the untouched median that the warm-up saw.
    """

    protocol: str = "quiet"
    cuda_graph: bool | None = None
    spin_wait: bool | None = None
    data_transfers: bool | None = None
    optimization_level: int | None = None
    max_tactics: int | None = None
    aux_streams: int | None = None
    workspace_mib: int | None = None
    timing_cache: str | None = None
    strict_timing_cache: bool = False
    device: int = 0
    min_shapes: read.Shapes = field(default_factory=dict)
    max_shapes: read.Shapes = field(default_factory=dict)
    max_batch: int | None = None
    opt_batch: int | None = None
    precision_by: str = "auto"
    sparsity: str = "disable"
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    kernel_specialization: str = "eager"
    runtime_cache: bool = True
    nvtx: bool = False
    build_timeout_s: float = 3600.0
    profile: bool = True
    nsys: bool = False
    accuracy: bool = True
    calibration_samples: int = 32
    calibration_seed: int = 0
    calibration_data: str | None = None
    per_channel: bool = True
    quantize_ops: tuple[str, ...] = ()
    quantize_block: int = 128
    quantize_rest: str = "fp16"
    graph_tool: str = "auto"
    inject_delay_ms: float = 0.0
    inject_delay_pct: float = 0.0

    @property
    def by_flags(self) -> bool:
        """Whether flags of the builder say the precision."""
        return self.precision_by == "flags"

    def measuring(self) -> tuple[bool, bool, bool]:
        """Return CUDA graph, spin-wait and transfers as asked for: the protocol, and what the plan sets beside it."""
        quiet = self.protocol == "quiet"
        return (
            quiet if self.cuda_graph is None else self.cuda_graph,
            quiet if self.spin_wait is None else self.spin_wait,
            not quiet if self.data_transfers is None else self.data_transfers,
        )

    def calibration(self) -> Calibration:
        """Return how a precision is put into the graph."""
        return Calibration(
            samples=self.calibration_samples,
            seed=self.calibration_seed,
            data=None if self.calibration_data is None else Path(self.calibration_data),
            per_channel=self.per_channel,
            operators=self.quantize_ops,
            block_size=self.quantize_block,
            rest=self.quantize_rest,
            tool=self.graph_tool,
        )

    def built(self) -> Json:
        """Return what an engine depends on among these options; shapes and graph are not in it."""
        return {
            "max_batch": self.max_batch,
            "min_shapes": {name: list(dims) for name, dims in sorted(self.min_shapes.items())},
            "max_shapes": {name: list(dims) for name, dims in sorted(self.max_shapes.items())},
            "max_tactics": self.max_tactics,
            "aux_streams": self.aux_streams,
            "optimization_level": self.optimization_level,
            "workspace_mib": self.workspace_mib,
            "timing_cache": self.timing_cache is not None,
            "strict_timing_cache": self.strict_timing_cache,
            "precision_by": "flags" if self.by_flags else "graph",
            "sparsity": self.sparsity,
            "hardware_compatibility": self.hardware_compatibility,
            "version_compatible": self.version_compatible,
            "compute_capabilities": list(self.compute_capabilities),
        }


def parse_options(options: Json, backend: str) -> TensorrtOptions:
    """Check the options of a plan for ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        PlanError: An unknown option (names the nearest known one), a value of the wrong type or range, or
            options that contradict each other.
    """
    read.refuse_unknown(options, backend)
    default = TensorrtOptions()
    calibration = parse_calibration(options)
    parsed = TensorrtOptions(
        protocol=read.choice(options, "protocol", default.protocol, PROTOCOLS),
        cuda_graph=read.optional_flag(options, "cuda_graph"),
        spin_wait=read.optional_flag(options, "spin_wait"),
        data_transfers=read.optional_flag(options, "data_transfers"),
        optimization_level=read.optional_integer(options, "optimization_level", low=0, high=5),
        max_tactics=read.optional_integer(options, "max_tactics", low=1, high=1 << 16),
        aux_streams=read.optional_integer(options, "aux_streams", low=0, high=64),
        workspace_mib=read.optional_integer(options, "workspace_mib", low=1, high=1 << 20),
        timing_cache=read.optional_text(options, "timing_cache"),
        strict_timing_cache=read.flag(options, "strict_timing_cache", default.strict_timing_cache),
        device=read.integer(options, "device", default.device, low=0),
        min_shapes=read.shapes(options, "min_shapes"),
        max_shapes=read.shapes(options, "max_shapes"),
        max_batch=read.optional_integer(options, "max_batch", low=1, high=1 << 16),
        opt_batch=read.optional_integer(options, "opt_batch", low=1, high=1 << 16),
        precision_by=read.choice(options, "precision_by", default.precision_by, PRECISION_BY),
        sparsity=read.choice(options, "sparsity", default.sparsity, SPARSITY),
        hardware_compatibility=read.choice(
            options, "hardware_compatibility", default.hardware_compatibility, tuple(HARDWARE)
        ),
        version_compatible=read.flag(options, "version_compatible", default.version_compatible),
        compute_capabilities=read.names(options, "compute_capabilities"),
        kernel_specialization=read.choice(
            options, "kernel_specialization", default.kernel_specialization, KERNEL_SPECIALIZATION
        ),
        runtime_cache=read.flag(options, "runtime_cache", default.runtime_cache),
        nvtx=read.flag(options, "nvtx", default.nvtx),
        build_timeout_s=read.positive(options, "build_timeout_s", default.build_timeout_s),
        profile=read.flag(options, "profile", default.profile),
        nsys=read.flag(options, "nsys", default.nsys),
        accuracy=read.flag(options, "accuracy", default.accuracy),
        calibration_samples=calibration.samples,
        calibration_seed=calibration.seed,
        calibration_data=None if calibration.data is None else str(calibration.data),
        per_channel=calibration.per_channel,
        quantize_ops=calibration.operators,
        quantize_block=calibration.block_size,
        quantize_rest=calibration.rest,
        graph_tool=calibration.tool,
        inject_delay_ms=read.positive(options, "inject_delay_ms"),
        inject_delay_pct=read.positive(options, "inject_delay_pct"),
    )
    read.refuse_contradictions(
        strict_timing_cache=parsed.strict_timing_cache,
        timing_cache=parsed.timing_cache,
        opt_batch=parsed.opt_batch,
        max_batch=parsed.max_batch,
    )
    return parsed
