"""Options of the ONNX Runtime backend, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"
PROVIDER_NAMES = {"cpu": CPU_PROVIDER, "cuda": CUDA_PROVIDER, "tensorrt": TENSORRT_PROVIDER}
"""Short names that a plan may use."""

OPTIMIZATION_LEVELS = ("disable", "basic", "extended", "all")
"""Names for onnxruntime's ``GraphOptimizationLevel``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrtOptions:
    """Checked options.

    Attributes:
        threads: Threads inside an operator; 1 is the quietest. Operators always run one after the other.
        provider: Execution provider that must be active: ``cpu``, ``cuda``, ``tensorrt``, or onnxruntime's own name.
        cuda_graph: Replay a CUDA graph (CUDA and TensorRT providers).
        allow_cpu_nodes: Let nodes that the GPU's provider lacks run on the CPU; else they fail the case.
        graph_optimization: How far the graph is optimised at build time.
        accuracy: Compare the output with the fp32 model's after measuring.
        calibration_samples: Inputs that the static int8 calibration sees: too few, and larger values are cut off.
        calibration_seed: Seed of these inputs.
        calibration_data: Inputs to calibrate with instead: an ``.npz`` or a folder (``input_data``).
        accuracy_data: Inputs to take the accuracy on instead of seeded ones: an ``.npz`` or a folder.
        accuracy_batches: Batches of ``accuracy_data`` that the accuracy is taken on, at most.
        per_channel: Quantise weights per channel (static int8).
        quantize_ops: Operators to quantise; empty: the default of the precision.
        profile: Time nodes with onnxruntime's profiler, in a session of its own after measuring.
        inject_delay_ms: For tests of the gate: busy-wait this long inside each timed inference.
        inject_delay_pct: The same as a percentage of the untouched median that the warm-up saw.
    """

    threads: int = 1
    provider: str = CPU_PROVIDER
    cuda_graph: bool = False
    allow_cpu_nodes: bool = False
    graph_optimization: str = "all"
    accuracy: bool = True
    calibration_samples: int = 32
    calibration_seed: int = 0
    calibration_data: str | None = None
    accuracy_data: str | None = None
    accuracy_batches: int = 8
    per_channel: bool = True
    quantize_ops: tuple[str, ...] = ()
    profile: bool = True
    inject_delay_ms: float = 0.0
    inject_delay_pct: float = 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether the provider works on an NVIDIA GPU."""
        return self.provider in (CUDA_PROVIDER, TENSORRT_PROVIDER)

    def effective(self) -> Json:
        """Return the measuring options that are part of a run's identity; an injected delay is not one."""
        told: Json = {
            "threads": self.threads,
            "provider": self.provider,
            "graph_optimization": self.graph_optimization,
            "io_binding": True,
        }
        if self.on_gpu:
            told |= {"cuda_graph": self.cuda_graph, "allow_cpu_nodes": self.allow_cpu_nodes}
        return told


def provider_name(text: str) -> str:
    """Return onnxruntime's name of a provider, of which the plan may give the short one."""
    return PROVIDER_NAMES.get(text.lower(), text)


def parse_options(options: Json) -> OrtOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), or a value of the wrong type or range.
    """
    read.refuse_unknown(options, "onnxruntime")
    default = OrtOptions()
    return OrtOptions(
        threads=read.integer(options, "threads", default.threads, low=1),
        provider=provider_name(read.text(options, "provider", default.provider)),
        cuda_graph=read.flag(options, "cuda_graph", default.cuda_graph),
        allow_cpu_nodes=read.flag(options, "allow_cpu_nodes", default.allow_cpu_nodes),
        graph_optimization=read.choice(options, "graph_optimization", default.graph_optimization, OPTIMIZATION_LEVELS),
        accuracy=read.flag(options, "accuracy", default.accuracy),
        calibration_samples=read.integer(options, "calibration_samples", default.calibration_samples, low=1),
        calibration_seed=read.integer(options, "calibration_seed", default.calibration_seed, low=0),
        calibration_data=read.optional_text(options, "calibration_data"),
        accuracy_data=read.optional_text(options, "accuracy_data"),
        accuracy_batches=read.integer(options, "accuracy_batches", default.accuracy_batches, low=1),
        per_channel=read.flag(options, "per_channel", default.per_channel),
        quantize_ops=read.names(options, "quantize_ops"),
        profile=read.flag(options, "profile", default.profile),
        inject_delay_ms=read.positive(options, "inject_delay_ms"),
        inject_delay_pct=read.positive(options, "inject_delay_pct"),
    )
