"""Options of the ONNX Runtime backend, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read

CPU_PROVIDER = "CPUExecutionProvider"
OPTIMIZATION_LEVELS = ("disable", "basic", "extended", "all")
"""Names for onnxruntime's ``GraphOptimizationLevel``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrtOptions:
    """Checked options.

    Attributes:
        threads: Threads inside an operator; 1 is the quietest. Operators always run one after the other.
        provider: Execution provider that must be active.
        graph_optimization: How far the graph is optimised at build time.
        accuracy: Compare the output with the fp32 model's after measuring.
        calibration_samples: Seeded inputs that the static int8 calibration sees.
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
    graph_optimization: str = "all"
    accuracy: bool = True
    calibration_samples: int = 8
    calibration_seed: int = 0
    calibration_data: str | None = None
    accuracy_data: str | None = None
    accuracy_batches: int = 8
    per_channel: bool = True
    quantize_ops: tuple[str, ...] = ()
    profile: bool = True
    inject_delay_ms: float = 0.0
    inject_delay_pct: float = 0.0

    def effective(self) -> Json:
        """Return the measuring options that are part of a run's identity; an injected delay is not one."""
        return {
            "threads": self.threads,
            "provider": self.provider,
            "graph_optimization": self.graph_optimization,
            "io_binding": True,
        }


def parse_options(options: Json) -> OrtOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), or a value of the wrong type or range.
    """
    read.refuse_unknown(options, "onnxruntime")
    default = OrtOptions()
    return OrtOptions(
        threads=read.integer(options, "threads", default.threads, low=1),
        provider=read.text(options, "provider", default.provider),
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
