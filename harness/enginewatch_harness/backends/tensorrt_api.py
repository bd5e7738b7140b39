"""The backends ``tensorrt`` and ``tensorrt_rtx``: their Python packages, in the worker's own process."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement, Profiled
from enginewatch_harness.backends.tensorrt_build import BuildRequest, build_engine
from enginewatch_harness.backends.tensorrt_cuda import Cuda, CudaDevice, open_cuda
from enginewatch_harness.backends.tensorrt_log import logger
from enginewatch_harness.backends.tensorrt_marks import marked
from enginewatch_harness.backends.tensorrt_measure import measure_engine
from enginewatch_harness.backends.tensorrt_module import is_rtx, load_module
from enginewatch_harness.backends.tensorrt_options import TensorrtOptions, parse_options
from enginewatch_harness.backends.tensorrt_profile import profile_layers
from enginewatch_harness.backends.tensorrt_query import Query
from enginewatch_harness.backends.tensorrt_record import NewEngine, engine_record, new_layers
from enginewatch_harness.backends.tensorrt_runner import Runner
from enginewatch_harness.backends.tensorrt_runtime_cache import RuntimeCache, runtime_cache
from enginewatch_harness.backends.tensorrt_tensors import generated_inputs
from enginewatch_harness.backends.trtexec_shapes import tuned_for
from enginewatch_harness.graph_precision import Calibration, GraphModel, graph_identity, graph_tool, prepare_graph
from enginewatch_harness.graph_precision.load import load_model
from enginewatch_harness.onnx_inputs import read_inputs
from enginewatch_harness.parse.trtexec_layers import layers_table, parse_layers, realised_precision

_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "int4", "fp4")


class TensorrtBackend:
    """Builds and measures ONNX models with TensorRT 10 or 11."""

    name = "tensorrt"

    def availability(self) -> Availability:
        """Say whether the package, the CUDA runtime and a GPU are here, and what is missing."""
        try:
            module = load_module(self.name)
        except NotAvailableError as error:
            return Availability(available=False, why=error.message, remedy=error.remedy)
        version = str(module.__version__)
        try:
            cuda = open_cuda()
            cuda.device_count()
            device = cuda.device(0).name
        except BackendError as error:
            why = f"{module.__name__} {version} is installed, but there is no GPU to run on: {error.message}"
            return Availability(available=False, version=version, why=why, remedy=error.remedy)
        return Availability(available=True, version=version, device=device, precisions=precisions())

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options, self.name)

    def engine_options(self, job: Job) -> Json:
        """Return what the engine depends on besides model, device, version and precision.

        Raises:
            BackendError: ``unsupported_precision``: nobody here puts it into a graph.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options, self.name)
        built = options.built() | {"shapes": {name: list(dims) for name, dims in _tuned_for(job, options)}}
        return built if options.by_flags else built | graph_identity(job.precision, options.calibration(), job.shapes)

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Build an engine into ``target`` and read back what it is.

        TensorRT-RTX builds without a GPU. The record's ``engine_key`` and ``path`` are ``target``'s name: the cache
        that owns the file knows better.

        Raises:
            BackendError: With the code that the library's own words stand for; ``timeout``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options, self.name)
        module = load_module(self.name)
        device = self._building_device(options)
        context.work_dir.mkdir(parents=True, exist_ok=True)
        graph = _graph(job, options, context)
        request = BuildRequest(
            model=graph.path,
            precision=job.precision,
            shapes=job.shapes,
            options=options,
            what=f"build of {job.case_key}",
            report=lambda steps: context.progress(steps, None),
        )
        keeper = logger(module)[1]
        mark = len(keeper.lines)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp").absolute()
        began = time.monotonic_ns()
        try:
            with marked("build"):
                built = build_engine(module, request)
            build_time_s = (time.monotonic_ns() - began) / 1e9
            temporary.write_bytes(built.plan)
            new = NewEngine(
                built=built,
                layers=new_layers(module, built, load=device is not None),
                build_time_s=build_time_s,
                device=device,
                graph=graph,
            )
            record = engine_record(module, temporary, target, new)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            (context.work_dir / f"{self.name}-build.log").write_text(keeper.text(mark), encoding="utf-8")
        return record

    def _building_device(self, options: TensorrtOptions) -> CudaDevice | None:
        return _use_device(options)[1]

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Load the engine, warm up, and time single inferences by the host's clock and by CUDA events.

        Raises:
            BackendError: With the code that the library's own words stand for; ``output_not_finite``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options, self.name)
        context.enter(Phase.LOAD)
        began = time.monotonic_ns()
        module = load_module(self.name)
        path = engine_path or job.model_path
        cuda, device = _use_device(options)
        cache = _runtime_cache(module, options, context, path, device)
        graph = options.measuring()[0]
        with closing(self._runner(module, cuda, job, path, options, graphs=graph, cache=cache)) as runner:
            _fill(runner, job)
            load_time_s = (time.monotonic_ns() - began) / 1e9
            measured = measure_engine(
                runner, job, options, context, load_time_s=load_time_s, engine=engine, cache=cache
            )
            return replace(measured, device=device.name)

    def profile(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Profiled:
        """Return times per layer, from an execution context of their own without CUDA graph.

        Raises:
            BackendError: As in ``measure``; ``no_samples`` where the profiler heard nothing.
        """
        options = parse_options(job.options, self.name)
        module = load_module(self.name)
        path = engine_path or job.model_path
        cuda, device = _use_device(options)
        cache = _runtime_cache(module, options, context, path, device)
        with closing(self._runner(module, cuda, job, path, options, graphs=False, cache=cache)) as runner:
            _fill(runner, job)
            found = profile_layers(runner)
            layers = parse_layers(runner.inspect())
        return Profiled(
            tables={"layers": layers_table(found, layers, source=self.name)},
            realised_precision=realised_precision(layers, found),
        )

    def repeat(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        context: Context,
        *,
        inferences: int,
        watch: AbstractContextManager[object],
    ) -> None:
        """Load the engine, set it up as for measuring, and do some inferences inside ``watch``.

        Raises:
            BackendError: As in ``measure``.
        """
        options = parse_options(job.options, self.name)
        module = load_module(self.name)
        path = engine_path or job.model_path
        cuda, device = _use_device(options)
        cache = _runtime_cache(module, options, context, path, device)
        graph, spin, transfers = options.measuring()
        with closing(self._runner(module, cuda, job, path, options, graphs=graph, cache=cache)) as runner:
            _fill(runner, job)
            query = Query(runner, spin=spin, transfers=transfers)
            query.infer()
            if graph:
                query.infer()
                query.use_graph()
            with watch:
                for _ in range(inferences):
                    query.infer()

    def infer(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        inputs: dict[str, NDArray[np.generic]],
        context: Context,
    ) -> dict[str, NDArray[np.generic]]:
        """Return the engine's outputs by name.

        Raises:
            BackendError: As in ``measure``.
        """
        options = parse_options(job.options, self.name)
        module = load_module(self.name)
        path = engine_path or job.model_path
        cuda, device = _use_device(options)
        cache = _runtime_cache(module, options, context, path, device)
        asked = replace(job, shapes={name: tuple(values.shape) for name, values in inputs.items()})
        with closing(self._runner(module, cuda, asked, path, options, graphs=False, cache=cache)) as runner:
            runner.set_inputs(inputs)
            runner.enqueue()
            return runner.outputs()

    def _runner(
        self,
        module: ModuleType,
        cuda: Cuda,
        job: Job,
        path: Path,
        options: TensorrtOptions,
        *,
        graphs: bool,
        cache: RuntimeCache | None,
    ) -> Runner:
        return Runner(module, cuda, path, options, shapes=job.shapes, what=job.case_key, graphs=graphs, cache=cache)


class TensorrtRtxBackend(TensorrtBackend):
    """Builds ONNX models ahead of time with TensorRT-RTX, on any machine, and measures them on RTX GPUs."""

    name = "tensorrt_rtx"

    def _building_device(self, options: TensorrtOptions) -> CudaDevice | None:
        try:
            return super()._building_device(options)
        except NotAvailableError:
            return None


def precisions() -> tuple[str, ...]:
    """Return the precisions that somebody here puts into a graph."""

    def known(precision: str) -> bool:
        try:
            graph_tool(precision, Calibration())
        except BackendError:
            return False
        return True

    return tuple(precision for precision in _PRECISIONS if known(precision))


def _tuned_for(job: Job, options: TensorrtOptions) -> list[tuple[str, tuple[int, ...]]]:
    if options.opt_batch is None or job.model_path.suffix != ".onnx":
        return sorted(job.shapes.items())
    return sorted(tuned_for(job.shapes, options, read_inputs(job.model_path)).items())


def _graph(job: Job, options: TensorrtOptions, context: Context) -> GraphModel:
    return prepare_graph(
        job.model_path,
        "fp32" if options.by_flags else job.precision,
        shapes=job.shapes,
        calibration=options.calibration(),
        cache_dir=context.cache_dir,
        work_dir=context.work_dir,
    )


def _use_device(options: TensorrtOptions) -> tuple[Cuda, CudaDevice]:
    cuda = open_cuda()
    cuda.device_count()
    cuda.use(options.device, spin=options.measuring()[1])
    return cuda, cuda.device(options.device)


def _runtime_cache(
    module: ModuleType, options: TensorrtOptions, context: Context, path: Path, device: CudaDevice
) -> RuntimeCache | None:
    if not options.runtime_cache or not is_rtx(module) or not path.is_file():
        return None
    return runtime_cache(module, context.cache_dir, path, device.name)


def _fill(runner: Runner, job: Job) -> None:
    """Give the engine seeded inputs; integers that index a table are bounded by the model that it was built from."""
    integers = any(spec.is_input and "INT" in spec.dtype for spec in runner.specs)
    model = load_model(job.model_path) if integers and job.model_path.suffix == ".onnx" else None
    runner.set_inputs(generated_inputs(runner.specs, runner.shapes, model, job.seed))
