"""The CUDA runtime, through the package ``cuda-bindings``: the only file that calls it.

Every call of the bindings returns a tuple whose first item is the status.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError, NotAvailableError

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""The name since cuda-python 12.6, and the one before."""

_REMEDY = "pip install cuda-bindings (of the CUDA version that TensorRT was built for)"
_NO_GPU = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError", "cudaErrorStubLibrary")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevice:
    """One GPU as CUDA numbers them."""

    name: str
    compute_capability: str
    memory_mib: float


class Cuda:
    """What the TensorRT backends need of the CUDA runtime. Streams, events and graphs are the bindings' own objects.

    Args:
        runtime: The module ``cuda.bindings.runtime``.
    """

    def __init__(self, runtime: Any) -> None:  # noqa: ANN401 - the bindings ship no types
        self._rt = runtime

    def _call(self, name: str, *args: Any) -> Any:  # noqa: ANN401
        """Call a function of the runtime and return what it brought.

        Raises:
            BackendError: ``out_of_memory``, ``not_available`` (no driver or GPU), else ``crashed``.
        """
        status, *found = getattr(self._rt, name)(*args)
        if status != self._rt.cudaError_t.cudaSuccess:
            raise self._failure(name, status)
        return found[0] if len(found) == 1 else tuple(found)

    def _failure(self, name: str, status: Any) -> BackendError:  # noqa: ANN401
        words = self._rt.cudaGetErrorString(status)[1]
        said = words.decode("utf-8", errors="replace") if isinstance(words, bytes) else str(words)
        message = f"{name}: {said} ({status.name})"
        if status.name == "cudaErrorMemoryAllocation":
            return BackendError(message, code="out_of_memory", remedy="free GPU memory, or lower the batch")
        if status.name in _NO_GPU:
            return NotAvailableError(message, remedy="this needs an NVIDIA GPU and its driver; see nvidia-smi")
        return BackendError(message, code="crashed", remedy="look for XID errors in dmesg")

    def device_count(self) -> int:
        """Return how many GPUs there are.

        Raises:
            BackendError: ``not_available``: no driver, or no GPU that it can use.
        """
        return int(self._call("cudaGetDeviceCount"))

    def device(self, index: int) -> CudaDevice:
        """Describe a GPU.

        Raises:
            BackendError: There is none of that number.
        """
        found = self._call("cudaGetDeviceProperties", index)
        name = found.name.decode("utf-8", errors="replace") if isinstance(found.name, bytes) else str(found.name)
        return CudaDevice(
            name=name.rstrip("\0"),
            compute_capability=f"{found.major}.{found.minor}",
            memory_mib=found.totalGlobalMem / _MIB,
        )

    def use(self, index: int, *, spin: bool) -> None:
        """Make a GPU the current one, and say how its threads wait."""
        self._call("cudaSetDevice", index)
        flag = self._rt.cudaDeviceScheduleSpin if spin else self._rt.cudaDeviceScheduleBlockingSync
        self._call("cudaSetDeviceFlags", flag)

    def stream(self) -> Any:  # noqa: ANN401
        """Return a new stream; TensorRT synchronises the whole device on the default one."""
        return self._call("cudaStreamCreateWithFlags", self._rt.cudaStreamNonBlocking)

    def synchronize(self, stream: Any) -> None:  # noqa: ANN401
        """Wait for all work of a stream."""
        self._call("cudaStreamSynchronize", stream)

    def event(self, *, spin: bool) -> Any:  # noqa: ANN401
        """Return a new event that can be timed."""
        return self._call(
            "cudaEventCreateWithFlags", self._rt.cudaEventDefault if spin else self._rt.cudaEventBlockingSync
        )

    def record(self, event: Any, stream: Any) -> None:  # noqa: ANN401
        """Let an event happen when the stream gets to it."""
        self._call("cudaEventRecord", event, stream)

    def wait(self, event: Any) -> None:  # noqa: ANN401
        """Wait until an event has happened."""
        self._call("cudaEventSynchronize", event)

    def elapsed_ns(self, start: Any, end: Any) -> int:  # noqa: ANN401
        """Return the time between two events that have happened; it is resolved to about 500 ns."""
        return round(float(self._call("cudaEventElapsedTime", start, end)) * 1e6)

    def allocate(self, size: int) -> int:
        """Return the address of new GPU memory."""
        return int(self._call("cudaMalloc", max(size, 1)))

    def host_array(self, size: int) -> NDArray[np.uint8]:
        """Return pinned host memory, without which copies do not run beside the host."""
        address = int(self._call("cudaMallocHost", max(size, 1)))
        memory = (ctypes.c_uint8 * max(size, 1)).from_address(address)
        return np.frombuffer(memoryview(memory), np.uint8)[:size]

    def free(self, address: int) -> None:
        """Give GPU memory back."""
        self._call("cudaFree", address)

    def free_host(self, array: NDArray[Any]) -> None:
        """Give pinned memory back; the array and its views must not be used again."""
        self._call("cudaFreeHost", array.ctypes.data)

    def end_stream(self, stream: Any) -> None:  # noqa: ANN401
        """Give a stream back."""
        self._call("cudaStreamDestroy", stream)

    def upload(self, target: int, source: NDArray[Any], stream: Any) -> None:  # noqa: ANN401
        """Copy an array to the GPU, in the order of the stream."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, stream)

    def download(self, target: NDArray[Any], source: int, stream: Any) -> None:  # noqa: ANN401
        """Copy from the GPU into an array, in the order of the stream."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, stream)

    def begin_capture(self, stream: Any) -> None:  # noqa: ANN401
        """Begin to collect the work of a stream instead of doing it; other threads are not disturbed."""
        self._call("cudaStreamBeginCapture", stream, self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self, stream: Any) -> Any:  # noqa: ANN401
        """Return the collected work, ready to be launched.

        Raises:
            BackendError: Something in it cannot be captured.
        """
        graph = self._call("cudaStreamEndCapture", stream)
        return self._call("cudaGraphInstantiate", graph, 0)

    def launch(self, graph: Any, stream: Any) -> None:  # noqa: ANN401
        """Do collected work."""
        self._call("cudaGraphLaunch", graph, stream)

    def forget_error(self) -> None:
        """Clear the error that a failed capture leaves behind."""
        self._rt.cudaGetLastError()


def open_cuda() -> Cuda:
    """Return the CUDA runtime.

    Raises:
        NotAvailableError: The package is absent, or its library cannot be loaded.
    """
    last: Exception | None = None
    for name in _MODULES:
        try:
            return Cuda(importlib.import_module(name))
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: no libcudart to be found
            last = last or error
    raise NotAvailableError(f"the Python package cuda-bindings cannot be imported: {last}", remedy=_REMEDY) from last
