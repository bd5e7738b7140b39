"""ONNX Runtime's CUDA and TensorRT execution providers: their options, and one inference between two CUDA events."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import Json
from enginewatch_harness.backends.ort_options import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, OrtOptions

REMEDY = (
    "pip install onnxruntime-gpu with the CUDA, cuDNN and TensorRT that it names, check the driver, "
    "or set provider to one that is here"
)
NO_CPU_NODES = "session.disable_cpu_ep_fallback"
"""Session configuration with which a node that only the CPU can run fails the session instead of slowing it."""

_TRT_FLAGS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}
_LIBRARIES = {
    CUDA_PROVIDER: "libonnxruntime_providers_cuda.so",
    TENSORRT_PROVIDER: "libonnxruntime_providers_tensorrt.so",
}
_FALLBACK_WORDS = (
    "fallback to CPU EP has been explicitly disabled",
    "Please install TensorRT libraries",
    "Failed to create CUDAExecutionProvider",
    "also disabled fallback to the CPU EP",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Folders in which TensorRT's engines and timings outlive a run."""

    engines: Path
    timings: Path


def provider_list(
    options: OrtOptions, precision: str, *, kept: Kept | None, stream: int | None
) -> list[tuple[str, Json]]:
    """Return the providers of a session with their options, as onnxruntime takes them. Pure.

    Args:
        options: Checked options.
        precision: Requested precision: decides TF32, and on TensorRT up to 10 the precisions that it may choose from.
        kept: Where TensorRT's engines and timings outlive the run; ``None``: nowhere.
        stream: Address of the CUDA stream to work on; ``None``: the provider's own.
    """
    if options.provider == CPU_PROVIDER:
        return [(CPU_PROVIDER, {})]
    shared: Json = {"device_id": "0"} | ({} if stream is None else {"user_compute_stream": str(stream)})
    cuda: Json = {
        **shared,
        "use_tf32": "1" if precision == "tf32" else "0",
        "enable_cuda_graph": "1" if options.cuda_graph and options.provider == CUDA_PROVIDER else "0",
        # A search for kernels while measuring would change what is measured from run to run.
        "tunable_op_enable": "0",
        "tunable_op_tuning_enable": "0",
    }
    if options.provider == CUDA_PROVIDER:
        return [(CUDA_PROVIDER, cuda)]
    if options.provider != TENSORRT_PROVIDER:
        return [(options.provider, {})]
    trt: Json = {**shared, "trt_cuda_graph_enable": "True" if options.cuda_graph else "False"}
    flag = _TRT_FLAGS.get(precision.removesuffix("_dynamic"))
    if flag is not None:
        trt[flag] = "True"
    if kept is not None:
        trt |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(kept.engines),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(kept.timings),
        }
    # What TensorRT does not take goes to CUDA before the CPU, as onnxruntime's documentation advises.
    return [(TENSORRT_PROVIDER, trt), (CUDA_PROVIDER, cuda)]


def is_fallback(reason: str) -> bool:
    """Return whether onnxruntime's words mean that a provider is not active, or left nodes to the CPU."""
    return any(word in reason for word in _FALLBACK_WORDS)


def fallback(provider: str, why: str) -> BackendError:
    """Return the one error for a provider that is not what runs, with its code and remedy."""
    return BackendError(f"execution provider {provider} is not active: {why}", code="provider_fallback", remedy=REMEDY)


def missing_library(onnxruntime: Any, provider: str) -> str | None:  # noqa: ANN401 - onnxruntime ships no types
    """Return the loader's words about a library that a provider needs and this machine lacks; ``None`` if it has all.

    onnxruntime itself says it in its log only, and then goes on with another provider.
    """
    name = _LIBRARIES.get(provider)
    path = Path(onnxruntime.__file__).parent / "capi" / name if name else None
    if path is None or not path.is_file():
        return None
    try:
        ctypes.CDLL(str(path), mode=os.RTLD_LAZY)
    except OSError as error:
        return str(error) if "cannot open shared object" in str(error) else None
    return None


def load_cuda_libraries(onnxruntime: Any) -> None:  # noqa: ANN401 - onnxruntime ships no types
    """Load CUDA and cuDNN from NVIDIA's Python packages where they are installed; it prints what it lacks."""
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(OSError):
            preload()


def placement(providers: list[str | None]) -> str:
    """Return how many nodes each provider ran, in words, from the layers' provider names."""
    counts = Counter(name or "unknown" for name in providers)
    return "nodes by provider: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


@dataclass(slots=True, kw_only=True)
class GpuInference:
    """One inference with bound memory, between two CUDA events where the CUDA bindings are installed.

    Attributes:
        session: The session.
        binding: Its inputs and outputs, on the device.
        timer: The clock; ``None``: GPU time is not told.
        settings: Run options; ``None``: the default.
        gpu_ns: Time between the events of each inference that ``keep`` was called after.
    """

    session: Any
    binding: Any
    timer: CudaTimer | None = None
    settings: Any = None
    gpu_ns: array[int] = field(default_factory=lambda: array("q"))

    def run(self) -> None:
        """Do one inference and wait for its results."""
        if self.timer is None:
            self.session.run_with_iobinding(self.binding, self.settings)
            return
        self.timer.begin()
        self.session.run_with_iobinding(self.binding, self.settings)
        self.timer.end()

    def keep(self) -> None:
        """Read the events of the last inference, outside its time."""
        if self.timer is not None:
            self.gpu_ns.append(self.timer.elapsed_ns())


@dataclass(slots=True, kw_only=True)
class CudaTimer:
    """Two CUDA events on the stream that the provider works on."""

    cuda: Any
    stream: Any
    events: tuple[Any, Any]

    def begin(self) -> None:
        """Let the first event happen when the stream gets to it."""
        self.cuda.record(self.events[0], self.stream)

    def end(self) -> None:
        """Let the second event happen behind all work, and wait for it."""
        self.cuda.record(self.events[1], self.stream)
        self.cuda.wait(self.events[1])

    def elapsed_ns(self) -> int:
        """Return the time between the two events."""
        return int(self.cuda.elapsed_ns(*self.events))

    @property
    def address(self) -> int:
        """The stream as a provider option takes it."""
        return int(self.stream)


def make_timer(provider: str) -> CudaTimer | None:
    """Return a timer for a GPU provider; ``None`` for the CPU, and where the CUDA bindings are not installed."""
    if provider not in (CUDA_PROVIDER, TENSORRT_PROVIDER):
        return None
    from enginewatch_harness.backends.tensorrt_cuda import open_cuda

    try:
        cuda = open_cuda()
    except NotAvailableError:
        # The session says what is missing; with a GPU and no bindings, latency is measured and GPU time is absent.
        return None
    cuda.use(0, spin=True)
    return CudaTimer(cuda=cuda, stream=cuda.stream(), events=(cuda.event(spin=True), cuda.event(spin=True)))
