"""Options of the Torch backends, as a plan spells them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read

DEVICES = ("auto", "cpu", "cuda")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Modes of ``torch.compile`` (its documentation of ``mode``)."""

GRAPH_MODES = ("reduce-overhead", "max-autotune")
"""Those of them that replay CUDA graphs."""

EXPORTED = ".pt2"
SCRIPTED = (".pt", ".ts", ".torchscript")
"""Endings of files that only torch reads: of ``torch.export`` and of TorchScript."""

DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Requested precision → name of the torch type that the module works in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOptions:
    """Checked options of the backends ``torch``, ``torch_compile`` and ``torch_tensorrt``.

    Attributes:
        threads: Threads inside an operator on the CPU; 1 is the quietest.
        torch_device: ``cpu``, ``cuda``, or ``auto``: the GPU where there is one.
        autocast: Keep fp32 weights and let torch choose the type per operator, instead of converting the module.
        compile_mode: Mode of ``torch.compile``; ``reduce-overhead`` and ``max-autotune`` replay CUDA graphs.
        min_block_size: Fewest operators that Torch-TensorRT makes an engine of.
        optimization_level: TensorRT's builder optimisation level (0 to 5) under Torch-TensorRT; unset: its default.
        accuracy: Compare the output with the fp32 model's after measuring.
        profile: Time operators and kernels with torch.profiler after measuring.
        nsys: Look at some inferences under Nsight Systems after measuring, in a process of its own.
        inject_delay_ms: For tests of the gate: busy-wait this long inside each timed inference.
        inject_delay_pct: The same as a percentage of the untouched median that the warm-up saw.
    """

    threads: int = 1
    torch_device: str = "auto"
    autocast: bool = False
    compile_mode: str = "default"
    min_block_size: int = 5
    optimization_level: int | None = None
    accuracy: bool = True
    profile: bool = True
    nsys: bool = False
    inject_delay_ms: float = 0.0
    inject_delay_pct: float = 0.0


def parse_options(options: Json, backend: str = "torch") -> TorchOptions:
    """Check the options of a plan.

    Raises:
        PlanError: An unknown option (names the nearest known one), or a value of the wrong type or range.
    """
    read.refuse_unknown(options, backend)
    default = TorchOptions()
    return TorchOptions(
        threads=read.integer(options, "threads", default.threads, low=1),
        torch_device=read.choice(options, "torch_device", default.torch_device, DEVICES),
        autocast=read.flag(options, "autocast", default.autocast),
        compile_mode=read.choice(options, "compile_mode", default.compile_mode, COMPILE_MODES),
        min_block_size=read.integer(options, "min_block_size", default.min_block_size, low=1),
        optimization_level=read.optional_integer(options, "optimization_level", low=0, high=5),
        accuracy=read.flag(options, "accuracy", default.accuracy),
        profile=read.flag(options, "profile", default.profile),
        nsys=read.flag(options, "nsys", default.nsys),
        inject_delay_ms=read.positive(options, "inject_delay_ms"),
        inject_delay_pct=read.positive(options, "inject_delay_pct"),
    )


def precisions_on(device: str) -> tuple[str, ...]:
    """Return the precisions that a module can be converted to on ``cpu`` or ``cuda``."""
    return ("fp32", "tf32", "fp16", "bf16") if device == "cuda" else ("fp32", "fp16", "bf16")


def check_precision(precision: str, device: str, *, autocast: bool) -> None:
    """Check that a precision can be had.

    Raises:
        BackendError: ``unsupported_precision``.
    """
    if precision not in precisions_on(device):
        why = "TF32 is a mode of NVIDIA's tensor cores" if precision == "tf32" else "torch converts no such weights"
        raise BackendError(
            f"precision {precision} cannot run on {device} under torch: {why}",
            code="unsupported_precision",
            remedy=f"choose one of {', '.join(precisions_on(device))}",
        )
    if autocast and precision in ("fp32", "tf32"):
        raise BackendError(
            f"autocast has no meaning for {precision}",
            code="unsupported_precision",
            remedy="set autocast = false, or ask for fp16 or bf16",
        )
