"""A loaded engine with its memory: set inputs, run, take outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.tensorrt_cuda import Cuda
from enginewatch_harness.backends.tensorrt_log import explain, logger
from enginewatch_harness.backends.tensorrt_module import is_rtx, member
from enginewatch_harness.backends.tensorrt_options import TensorrtOptions
from enginewatch_harness.backends.tensorrt_runtime_cache import RuntimeCache
from enginewatch_harness.backends.tensorrt_tensors import TensorSpec, decode, encode, input_shapes, nbytes

_REBUILD = "delete the engine and build it again"

_INVALID = {
    "VERSION_MISMATCH": "version_mismatch",
    "UNSUPPORTED_CC": "wrong_device",
    "INSUFFICIENT_GPU_MEMORY": "out_of_memory",
    "MALFORMED_ENGINE": "engine_corrupt",
    "OLD_CUDA_DRIVER": "not_available",
    "OLD_CUDA_RUNTIME": "not_available",
    "CUDA_ERROR": "not_available",
}
"""Name in TensorRT-RTX's ``EngineInvalidityDiagnostics`` → failure code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor with its memory.

    Attributes:
        spec: What it is.
        shape: Its shape in this run.
        address: Where it lies: on the GPU, or on the host for a tensor that says a shape.
        host: Pinned memory of the same size.
    """

    spec: TensorSpec
    shape: tuple[int, ...]
    address: int
    host: NDArray[np.uint8]


class Runner:
    """One engine in one execution context on one stream.

    Args:
        module: TensorRT's or TensorRT-RTX's module.
        cuda: The CUDA runtime; its device must have been chosen.
        path: The engine file.
        options: Checked options.
        shapes: Shapes of the case; an input of fixed shape need not be in it.
        what: For messages.
        graphs: Let TensorRT-RTX capture its own CUDA graphs.
        cache: Compiled kernels of TensorRT-RTX; ``None``: not kept.

    Raises:
        BackendError: The engine cannot be loaded here, or the shapes are not ones that it was built for.
    """

    def __init__(
        self,
        module: ModuleType,
        cuda: Cuda,
        path: Path,
        options: TensorrtOptions,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        what: str,
        graphs: bool,
        cache: RuntimeCache | None = None,
    ) -> None:
        self.module, self.cuda, self._what = module, cuda, what
        self.kept: list[Any] = []  # what TensorRT holds bare pointers to
        log, self._keeper = logger(module)
        self._mark = len(self._keeper.lines)
        self._runtime = module.Runtime(log)
        if options.version_compatible:
            self._runtime.engine_host_code_allowed = True
        self.engine = self._load(path)
        self.stream = cuda.stream()
        self.context = self._context(options, graphs, cache)
        self.tensors = self._tensors(shapes)

    def _load(self, path: Path) -> Any:  # noqa: ANN401 - TensorRT ships no types
        try:
            blob = path.read_bytes()
        except FileNotFoundError as error:
            raise BackendError(
                f"the engine {path} does not exist", code="model_missing", remedy="build it again"
            ) from error
        invalid = _invalidity(self.module, self._runtime, blob)
        if invalid is not None:
            raise BackendError(
                f"{self._what}: TensorRT-RTX refuses the engine ({invalid[0]})", code=invalid[1], remedy=_REBUILD
            )
        engine = self._runtime.deserialize_cuda_engine(blob)
        if engine is None:
            raise self._error("engine_corrupt", _REBUILD)
        return engine

    def _context(self, options: TensorrtOptions, graphs: bool, cache: RuntimeCache | None) -> Any:  # noqa: ANN401
        if is_rtx(self.module):
            config = self.engine.create_runtime_config()
            strategy = "WHOLE_GRAPH_CAPTURE" if graphs else "DISABLED"
            config.cuda_graph_strategy = member(self.module, "CudaGraphStrategy", strategy)
            config.dynamic_shapes_kernel_specialization_strategy = member(
                self.module, "DynamicShapesKernelSpecializationStrategy", options.kernel_specialization.upper()
            )
            if cache is not None:
                cache.attach(config)
            self.kept.append(config)
            context = self.engine.create_execution_context(config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise self._error("out_of_memory", "free GPU memory, or lower the batch")
        return context

    def _tensors(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Tensor, ...]:
        specs = self._specs()
        wanted = input_shapes(specs, shapes, self._what)
        for name, shape in wanted.items():
            if not self.context.set_input_shape(name, shape):
                raise self._error("shape_outside_profile", "correct shapes in the plan, or raise max_batch")
        inputs = [self._tensor(spec, wanted[spec.name]) for spec in specs if spec.is_input]
        missing = self.context.infer_shapes()
        if missing:
            raise BackendError(
                f"{self._what}: no shape or values for {', '.join(missing)}",
                code="shape_outside_profile",
                remedy="give shapes in the plan for every input with an open dimension",
            )
        outputs = [
            self._tensor(spec, tuple(self.context.get_tensor_shape(spec.name))) for spec in specs if not spec.is_input
        ]
        return (*inputs, *outputs)

    def _specs(self) -> list[TensorSpec]:
        engine, found = self.engine, []
        is_input = member(self.module, "TensorIOMode", "INPUT")
        on_host = member(self.module, "TensorLocation", "HOST")
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            found.append(
                TensorSpec(
                    name=name,
                    dtype=engine.get_tensor_dtype(name).name,
                    shape=tuple(engine.get_tensor_shape(name)),
                    is_input=engine.get_tensor_mode(name) == is_input,
                    on_host=engine.get_tensor_location(name) == on_host,
                )
            )
        return found

    def _tensor(self, spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
        if any(dim < 0 for dim in shape):
            raise BackendError(
                f"{self._what}: the shape of output {spec.name!r} depends on the data",
                code="unsupported_operator",
                remedy="measure it with the backend trtexec",
            )
        size = nbytes(spec, shape)
        host = self.cuda.host_array(size)
        address = host.ctypes.data if spec.on_host else self.cuda.allocate(size)
        if not self.context.set_tensor_address(spec.name, address):
            raise self._error("crashed", "read the run's log")
        return Tensor(spec=spec, shape=shape, address=address, host=host)

    def _error(self, code: str, remedy: str) -> BackendError:
        return explain(self._keeper.since(self._mark), self._what, code=code, remedy=remedy)

    @property
    def specs(self) -> list[TensorSpec]:
        """Inputs, then outputs."""
        return [tensor.spec for tensor in self.tensors]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs in this run."""
        return {tensor.spec.name: tensor.shape for tensor in self.tensors if tensor.spec.is_input}

    def set_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Put values into pinned memory and onto the GPU.

        Raises:
            BackendError: One is missing or has another shape.
        """
        for tensor in self.tensors:
            if not tensor.spec.is_input:
                continue
            values = inputs.get(tensor.spec.name)
            if values is None or tuple(values.shape) != tensor.shape:
                given = "nothing" if values is None else "x".join(map(str, values.shape))
                raise BackendError(
                    f"{self._what}: input {tensor.spec.name!r} takes {'x'.join(map(str, tensor.shape))}, not {given}",
                    code="shape_outside_profile",
                )
            tensor.host[:] = encode(values, tensor.spec).reshape(-1).view(np.uint8)
        self.upload()
        self.cuda.synchronize(self.stream)

    def upload(self) -> None:
        """Copy all inputs to the GPU, in the order of the stream."""
        for tensor in self.tensors:
            if tensor.spec.is_input and not tensor.spec.on_host:
                self.cuda.upload(tensor.address, tensor.host, self.stream)

    def download(self) -> None:
        """Copy all outputs from the GPU, in the order of the stream."""
        for tensor in self.tensors:
            if not tensor.spec.is_input and not tensor.spec.on_host:
                self.cuda.download(tensor.host, tensor.address, self.stream)

    def enqueue(self) -> None:
        """Put one inference on the stream.

        Raises:
            BackendError: TensorRT refused, with the code that its words stand for.
        """
        if not self.context.execute_async_v3(int(self.stream)):
            raise self._error("crashed", "read the run's log; look for XID errors in dmesg")

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the last inference."""
        self.download()
        self.cuda.synchronize(self.stream)
        return {
            tensor.spec.name: decode(tensor.host, tensor.spec, tensor.shape)
            for tensor in self.tensors
            if not tensor.spec.is_input
        }

    def close(self) -> None:
        """Give the memory back; what ``outputs`` returned stays."""
        self.cuda.synchronize(self.stream)
        del self.context
        for tensor in self.tensors:
            if not tensor.spec.on_host:
                self.cuda.free(tensor.address)
            self.cuda.free_host(tensor.host)
        self.cuda.end_stream(self.stream)

    def context_memory_mib(self) -> float | None:
        """Return the GPU memory of an execution context; ``None`` where this version does not tell."""
        for name in ("device_memory_size_v2", "device_memory_size"):  # 11 has only the first, 10.0 only the second
            size = getattr(self.engine, name, None)
            if size is not None:
                return float(size) / (1 << 20)
        return None

    def inspect(self) -> str:
        """Return the layers as JSON, with the dimensions of this run."""
        inspector = self.engine.create_engine_inspector()
        inspector.execution_context = self.context
        kind = member(self.module, "LayerInformationFormat", "JSON")
        return str(inspector.get_engine_information(kind))


def _invalidity(module: ModuleType, runtime: Any, blob: bytes) -> tuple[str, str] | None:  # noqa: ANN401
    """Return why TensorRT-RTX refuses an engine, and the failure code; ``None``: it does not, or cannot say."""
    ask = getattr(runtime, "get_engine_validity", None)
    invalid = member(module, "EngineValidity", "INVALID")
    if ask is None or invalid is None:
        return None
    answer = ask(blob)
    validity, diagnostics = answer if isinstance(answer, tuple) else (answer, 0)
    if validity != invalid:
        return None
    kinds = getattr(getattr(module, "EngineInvalidityDiagnostics", None), "__members__", {})
    names = [name for name, value in kinds.items() if int(value) & int(diagnostics)]
    # Without a named cause, loading it gives the library's own words.
    return (", ".join(names), _INVALID.get(names[0], "engine_corrupt")) if names else None
