"""The ONNX Runtime backend: "building" is optimising the graph to a saved model, on the CPU by default."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_harness.accuracy.compare import refuse_not_finite
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement, Profiled
from enginewatch_harness.backends.cuda_device import first_gpu
from enginewatch_harness.backends.ort_convert import Conversion, calibration_of, convert, load_model
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.backends.ort_gpu import CudaTimer, GpuInference, make_timer, placement
from enginewatch_harness.backends.ort_graph import read_graph
from enginewatch_harness.backends.ort_inputs import index_bounds, input_specs, make_inputs, resolve_shapes
from enginewatch_harness.backends.ort_kept import kept_folders
from enginewatch_harness.backends.ort_loop import Window, delayed, measure, samples_table, warm_up
from enginewatch_harness.backends.ort_options import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    TENSORRT_PROVIDER,
    OrtOptions,
    parse_options,
    provider_name,
)
from enginewatch_harness.backends.ort_probe import working_precisions
from enginewatch_harness.backends.ort_profile import layers_from_trace
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.graph_precision.load import embed_weights
from enginewatch_harness.provenance import cpu_device

_PROFILE_INFERENCES = 20


class OnnxRuntimeBackend:
    """Builds and measures ONNX models with ONNX Runtime, in this process."""

    name = "onnxruntime"

    def availability(self) -> Availability:
        """Say which version is here and which precisions the CPU provider executes (tried, not assumed)."""
        try:
            import onnxruntime  # a broken installation must be reported, not raised
        except ImportError as error:
            return Availability(available=False, why=f"onnxruntime: {error}", remedy="pip install onnxruntime")
        return Availability(
            available=True,
            version=onnxruntime.__version__,
            device=cpu_device(),
            precisions=working_precisions(CPU_PROVIDER),
        )

    def device_of(self, options: Json) -> str:
        """Return the product that a case with these options runs on."""
        return (first_gpu() or "NVIDIA GPU") if self.uses_gpu(options) else cpu_device()

    def uses_gpu(self, options: Json) -> bool:
        """Return whether the provider that is asked for works on a GPU."""
        return provider_name(str(options.get("provider", CPU_PROVIDER))) in (CUDA_PROVIDER, TENSORRT_PROVIDER)

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options)

    def engine_options(self, job: Job) -> Json:
        """Return what the saved graph depends on; threads and batch are not in it.

        Raises:
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options)
        built: Json = {"graph_optimization": options.graph_optimization, "provider": options.provider}
        if job.precision.startswith("int8"):
            built["quantize_ops"] = list(options.quantize_ops)
        if job.precision == "int8":
            built |= {
                **calibration_of(options).identity(),
                "per_channel": options.per_channel,
                # The batch is left out where it can be: the calibration sets a dynamic one to 1.
                "calibration_shapes": {name: list(dims[1:]) for name, dims in job.shapes.items()},
            }
        return built

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Convert to the requested precision, optimise, save under ``target``, and read back what came out.

        The record's ``engine_key`` and ``path`` are ``target``'s name: the cache that owns the file knows better.

        Raises:
            BackendError: The model cannot be read, or an operator lacks the precision; see ``ort_errors``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            began = time.monotonic_ns()
            self._optimise(job, options, temporary, context)
            build_time_s = (time.monotonic_ns() - began) / 1e9
            facts = read_graph(load_model(temporary))
            record = EngineRecord(
                engine_key=target.stem,
                engine_sha256=_sha256(temporary),
                path=target.name,
                size_bytes=temporary.stat().st_size,
                build_time_s=build_time_s,
                cached=False,
                realised_precision=facts.realised_precision,
                fingerprint=facts.fingerprint,
                details={**facts.details(), "options": self.engine_options(job), "versions": _versions()},
            )
            temporary.replace(target)
        except OSError as error:
            raise _disk_error(error, target) from error
        finally:
            temporary.unlink(missing_ok=True)
        return record

    def _optimise(self, job: Job, options: OrtOptions, target: Path, context: Context) -> None:
        work_dir = context.work_dir
        work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="onnxruntime-", dir=work_dir) as scratch:
            request = Conversion(
                source=job.model_path,
                precision="fp32" if job.precision == "tf32" and options.on_gpu else job.precision,
                shapes=job.shapes,
                options=options,
                work_dir=Path(scratch),
            )
            converted = convert(request)
            if options.provider == TENSORRT_PROVIDER:
                # TensorRT optimises by itself, and onnxruntime cannot save a graph that holds its engines.
                onnx.save(load_model(converted), str(target))
                return
            open_session(
                converted,
                options,
                precision=job.precision,
                optimization=options.graph_optimization,
                model=job.model_path,
                save_to=target,
            )
            embed_weights(target, converted.parent)

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Warm up and time single inferences with bound inputs and outputs, one after the other.

        Raises:
            BackendError: Engine missing or corrupt, wrong shapes, another provider than asked for, no memory,
                or NaN or infinity in the output (``output_not_finite``).
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options)
        path = engine_path or job.model_path
        context.enter(Phase.LOAD)
        kept = kept_folders(options, path, context.cache_dir)
        began = time.monotonic_ns()
        timer = make_timer(options.provider)
        session = open_session(
            path,
            options,
            precision=job.precision,
            optimization="disable",
            kept=kept,
            stream=None if timer is None else timer.address,
        )
        inputs = _inputs(session, job)
        with translated(model=path, precision=job.precision):
            # A GPU provider makes its engines and kernels in the first inference: that is loading, too.
            binding = _bind(session, inputs, options)
            load_time_s = (time.monotonic_ns() - began) / 1e9
            infer = GpuInference(session=session, binding=binding, timer=timer, settings=_unsynchronised(timer))
            window = _timed(infer, job, options, context)
            context.enter(Phase.DRAIN)
            outputs = [value.numpy() for value in binding.get_outputs()]
        refuse_not_finite(job.case_key, [item.name for item in session.get_outputs()], outputs)
        load_time = MetricValue(metric="load_time_s", value=load_time_s)
        return Measurement(
            tables={"latency_samples": samples_table(window, infer.gpu_ns, context.t0_ns)},
            window_ns=(window.start_ns, window.end_ns),
            metrics=(load_time,),
            realised_precision=_realised(engine, path),
            effective_options=options.effective(),
            versions=_versions(),
            device=(job.device_name or self.device_of(job.options)) if options.on_gpu else None,
            command=f"enginewatch run PLAN --case {shlex.quote(job.case_key)}",
            counts={"inferences": float(len(window.latencies))},
        )

    def profile(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Profiled:
        """Return kernel times per node from onnxruntime's profiler, in a session of its own.

        Raises:
            BackendError: As in ``measure``; ``no_samples`` when the profiler wrote nothing.
        """
        options = parse_options(job.options)
        path = engine_path or job.model_path
        context.work_dir.mkdir(parents=True, exist_ok=True)
        session = open_session(
            path,
            options,
            precision=job.precision,
            optimization="disable",
            profile_prefix=context.work_dir / "onnxruntime-profile",
            kept=kept_folders(options, path, context.cache_dir),
        )
        with translated(model=path, precision=job.precision):
            binding = _bind(session, _inputs(session, job), options)
            for _ in range(_PROFILE_INFERENCES):
                session.run_with_iobinding(binding)
            trace = Path(session.end_profiling())
        layers = layers_from_trace(trace.read_text(encoding="utf-8", errors="replace"))
        # The profiler times a GPU's nodes where they are enqueued; who ran them is what it knows for sure.
        placed = placement(layers.column("tactic").to_pylist())
        return Profiled(tables={"layers": layers}, notes=(placed,) if options.on_gpu else ())

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
        path = engine_path or job.model_path
        options = parse_options(job.options)
        session = open_session(
            path,
            options,
            precision=job.precision,
            optimization="disable",
            kept=kept_folders(options, path, context.cache_dir),
        )
        names = [item.name for item in session.get_outputs()]
        with translated(model=path, precision=job.precision):
            return dict(zip(names, session.run(names, inputs), strict=True))


def _inputs(session: Any, job: Job) -> dict[str, NDArray[Any]]:  # noqa: ANN401 - onnxruntime ships no types
    specs = input_specs(session)
    shapes = resolve_shapes(specs, job.shapes, job.model_name)
    integers = any("int" in spec.kind for spec in specs)
    bounds = index_bounds(load_model(job.model_path)) if integers else {}
    return make_inputs(specs, shapes, bounds, job.seed)


def _bind(session: Any, inputs: dict[str, NDArray[Any]], options: OrtOptions) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    """Bind inputs and, after one inference that tells their shapes, outputs: the loop then allocates nothing.

    Both lie on the device that the provider works on, so no copy is timed.
    """
    import onnxruntime

    place = "cuda" if options.on_gpu else "cpu"
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, place, 0))
    names = [item.name for item in session.get_outputs()]
    for name in names:
        binding.bind_output(name, place, 0)
    session.run_with_iobinding(binding)
    for name, value in zip(names, binding.get_outputs(), strict=True):
        binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy(), place, 0))
    return binding


def _unsynchronised(timer: CudaTimer | None) -> Any:  # noqa: ANN401
    """Return run options that leave waiting to the timer's event; ``None`` where nothing times on the GPU."""
    import onnxruntime

    if timer is None:
        return None
    settings = onnxruntime.RunOptions()
    settings.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return settings


def _timed(infer: GpuInference, job: Job, options: OrtOptions, context: Context) -> Window:
    context.enter(Phase.WARMUP)
    expected_ns = warm_up(infer.run, job.warmup_s)
    delay_ns = round(options.inject_delay_ms * 1e6 + expected_ns * options.inject_delay_pct / 100)
    timed = delayed(infer.run, delay_ns) if delay_ns else infer.run
    context.enter(Phase.MEASURE)
    return measure(
        timed,
        duration_s=job.duration_s,
        expected_ns=expected_ns + delay_ns,
        report=context.progress,
        after=infer.keep,
    )


def _realised(engine: EngineRecord | None, path: Path) -> str | None:
    if engine is not None and engine.realised_precision is not None:
        return engine.realised_precision
    return read_graph(load_model(path)).realised_precision


def _versions() -> dict[str, str]:
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _disk_error(error: OSError, target: Path) -> BackendError:
    if error.errno == errno.ENOSPC:
        return BackendError(
            f"no space left to write {target}", code="disk_full", remedy=f"free space below {target.parent}"
        )
    return BackendError(
        f"{target} could not be written: {error}", code="build_failed", remedy="check the folder's permissions"
    )
