"""A fake of ``cuda.bindings.runtime``; loaded by conftest.py, since tests are no package."""

# ruff: noqa: N802, N815 (CUDA's own names)

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

DTYPES = {1: "FLOAT", 10: "HALF", 7: "INT64", 6: "INT32", 16: "BF16", 9: "BOOL"}
"""ONNX's number of a type → name in TensorRT's ``DataType``."""


class PyEnum(enum.Enum):
    """As pybind11 makes them: no integers, but convertible."""

    def __int__(self):
        return self.value


class FakeCuda:
    """``cuda.bindings.runtime`` with memory that is the host's and a clock that runs by kernels alone."""

    cudaDeviceScheduleSpin, cudaDeviceScheduleBlockingSync = 1, 4
    cudaEventDefault, cudaEventBlockingSync, cudaStreamNonBlocking = 0, 1, 1
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaError_t = PyEnum(
        "cudaError_t",
        {
            "cudaSuccess": 0,
            "cudaErrorMemoryAllocation": 2,
            "cudaErrorInsufficientDriver": 35,
            "cudaErrorIllegalAddress": 700,
            "cudaErrorStreamCaptureUnsupported": 900,
        },
    )

    def __init__(self):
        self.gpu_ns = 100_000
        self.clock_ns = 0
        self.devices = 1
        self.memory: dict[int, object] = {}
        self.captured: list | None = None
        self.calls: list[str] = []
        self.fail: dict[str, str] = {}

    def __getattribute__(self, name):
        found = object.__getattribute__(self, name)
        if name.startswith("cuda") and callable(found) and not isinstance(found, type):
            self.calls.append(name)
            if name in self.fail:
                return lambda *_: (self.cudaError_t[self.fail[name]], None)
        return found

    def _ok(self, *values):
        return (self.cudaError_t.cudaSuccess, *values)

    def _do(self, work):
        if self.captured is not None:
            self.captured.append(work)
        else:
            work()

    def kernel(self, work):
        def run():
            self.clock_ns += self.gpu_ns
            work()

        self._do(run)

    def cudaGetDeviceCount(self):
        if not self.devices:
            return self.cudaError_t.cudaErrorInsufficientDriver, None
        return self._ok(self.devices)

    def cudaGetDeviceProperties(self, index):
        return self._ok(SimpleNamespace(name=b"NVIDIA Fake", major=8, minor=9, totalGlobalMem=1 << 34))

    def cudaGetErrorString(self, status):
        return self._ok(f"{status.name} in words".encode())

    def cudaSetDevice(self, index):
        return self._ok()

    def cudaSetDeviceFlags(self, flags):
        self.flags = flags
        return self._ok()

    def cudaGetLastError(self):
        return self._ok()

    def cudaStreamCreateWithFlags(self, flags):
        return self._ok(7)

    def cudaStreamSynchronize(self, stream):
        return self._ok()

    def cudaStreamDestroy(self, stream):
        return self._ok()

    def cudaEventCreateWithFlags(self, flags):
        return self._ok(SimpleNamespace(at_ns=0, flags=flags))

    def cudaEventRecord(self, event, stream):
        def stamp():
            event.at_ns = self.clock_ns

        self._do(stamp)
        return self._ok()

    def cudaEventSynchronize(self, event):
        return self._ok()

    def cudaEventElapsedTime(self, start, end):
        return self._ok(round((end.at_ns - start.at_ns) / 500) * 500 / 1e6)

    def _allocate(self, size):
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return self._ok(ctypes.addressof(block))

    def cudaMalloc(self, size):
        return self._allocate(size)

    def cudaMallocHost(self, size):
        return self._allocate(size)

    def cudaFree(self, address):
        del self.memory[address]
        return self._ok()

    def cudaFreeHost(self, address):
        del self.memory[address]
        return self._ok()

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        self._do(lambda: ctypes.memmove(target, source, size))
        return self._ok()

    def cudaStreamBeginCapture(self, stream, mode):
        self.captured = []
        return self._ok()

    def cudaStreamEndCapture(self, stream):
        work, self.captured = self.captured, None
        return self._ok(work)

    def cudaGraphInstantiate(self, graph, flags):
        return self._ok(graph)

    def cudaGraphLaunch(self, graph, stream):
        for work in graph:
            work()
        return self._ok()


class State:
    """What a fake module was asked to do, and how it shall fail."""

    def __init__(self, cuda):
        self.cuda, self.seen, self.build_error, self.enqueue_error = cuda, {}, None, None
        self.step, self.capturable, self.validity, self.layer_times = (lambda: None), True, ("VALID", 0), True
