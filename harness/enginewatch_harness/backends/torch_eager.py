"""The backend ``torch``: the model as torch runs it by itself, the baseline that engines are compared with."""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.accuracy.compare import refuse_not_finite
from enginewatch_harness.backends import torch_find, torch_run
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement, Profiled
from enginewatch_harness.backends.ort_loop import Window, delayed, measure, samples_table, warm_up
from enginewatch_harness.backends.torch_errors import translated
from enginewatch_harness.backends.torch_models import LoadedModel, load
from enginewatch_harness.backends.torch_options import DEVICES, DTYPES, TorchOptions, check_precision, parse_options
from enginewatch_harness.backends.torch_trace import tables_of
from enginewatch_harness.provenance import cpu_device

_PROFILE_INFERENCES = 10


@dataclass(slots=True, kw_only=True)
class Ready:
    """A module on its device, ready to be called.

    Attributes:
        torch: The module ``torch``.
        device: ``cpu`` or ``cuda``.
        options: Checked options.
        model: What was loaded.
        module: What is called: the model's module, or what a compiler made of it.
        tensors: Its inputs on the device.
        metrics: What preparing brought: compile time, graphs.
        reasons: Validity reasons found on the way.
        notes: Free text for the provenance.
        effective: Measuring options that the subclass adds.
        versions: Versions of the libraries that the subclass adds.
        compiled: How often the compiler has run so far; constant where there is none.
    """

    torch: Any
    device: str
    options: TorchOptions
    model: LoadedModel
    module: Callable[..., Any]
    tensors: list[Any]
    metrics: list[MetricValue] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    effective: Json = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    compiled: Callable[[], int] = lambda: 0

    def call(self) -> Any:  # noqa: ANN401 - what the module returns
        """Do one inference; on a GPU the work is only enqueued."""
        return self.module(*self.tensors)


class TorchBackend:
    """Measures a model in torch's eager mode, in this process."""

    name = "torch"

    def __init__(self) -> None:
        # What measuring made ready serves the profile and the accuracy too: compiling again may take minutes.
        self._kept: tuple[Job, Ready] | None = None

    def availability(self) -> Availability:
        """Say whether torch is here and for which device, without importing it."""
        return torch_find.torch_availability()

    def device_of(self, options: Json) -> str:
        """Return the product that a case with these options runs on."""
        wanted = options.get("torch_device", "auto")
        return torch_find.device_name(wanted if wanted in DEVICES else "auto")

    def uses_gpu(self, options: Json) -> bool:
        """Return whether a case with these options runs on a GPU, as far as it is known before torch is imported."""
        wanted = options.get("torch_device", "auto")
        return torch_find.kind_of_device(wanted if wanted in DEVICES else "auto") == "cuda"

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options, self.name)

    def engine_options(self, job: Job) -> None:
        """Check the options; nothing is built ahead.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(job.options, self.name)

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Refuse: what torch compiles lives and dies with its process.

        Raises:
            BackendError: Always.
        """
        raise BackendError(f"{self.name} builds no engine file", code="build_failed")

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Load, compile where the backend does, warm up, and time single inferences one after the other.

        Raises:
            BackendError: The model cannot be loaded, converted or run; see ``torch_errors``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        context.enter(Phase.LOAD)
        began = time.monotonic_ns()
        with self._ready(job, context) as ready:
            load_time_s = (time.monotonic_ns() - began) / 1e9
            window, infer = _timed(ready, job, context)
            context.enter(Phase.DRAIN)
            outputs = torch_run.to_arrays(ready.torch, infer.result, ready.model.outputs)
            refuse_not_finite(job.case_key, list(outputs), list(outputs.values()))
            return self._measured(job, ready, window, infer, load_time_s, context)

    def _measured(
        self,
        job: Job,
        ready: Ready,
        window: Window,
        infer: torch_run.Inference,
        load_time_s: float,
        context: Context,
    ) -> Measurement:
        torch, options = ready.torch, ready.options
        gpu = ready.device == "cuda"
        return Measurement(
            tables={"latency_samples": samples_table(window, infer.gpu_ns, context.t0_ns)},
            window_ns=(window.start_ns, window.end_ns),
            metrics=(MetricValue(metric="load_time_s", value=load_time_s), *ready.metrics),
            reasons=tuple(ready.reasons),
            realised_precision=_realised(torch, ready, job.precision),
            effective_options={
                "threads": options.threads,
                "torch_device": ready.device,
                "autocast": options.autocast,
                "inputs_on_device": True,
                **ready.effective,
            },
            versions={"torch": str(torch.__version__), **_cuda_versions(torch), **ready.versions},
            command=f"enginewatch run PLAN --case {shlex.quote(job.case_key)}",
            counts={"inferences": float(len(window.latencies))},
            notes=(f"model source: {ready.model.source}", *ready.notes),
            device=(job.device_name or str(torch.cuda.get_device_name())) if gpu else cpu_device(),
        )

    def profile(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Profiled:
        """Return operators and kernels from torch.profiler, over ten inferences.

        Raises:
            BackendError: As in ``measure``; ``no_samples`` when the profiler wrote nothing.
        """
        with self._ready(job, context) as ready:
            profiler = ready.torch.profiler
            kinds = [profiler.ProfilerActivity.CPU]
            if ready.device == "cuda":
                kinds.append(profiler.ProfilerActivity.CUDA)
            for _ in range(3):
                ready.call()
            context.work_dir.mkdir(parents=True, exist_ok=True)
            path = context.work_dir / "torch-profile.json"
            with profiler.profile(activities=kinds, record_shapes=True) as found:
                for _ in range(_PROFILE_INFERENCES):
                    ready.call()
                _synchronize(ready)
            found.export_chrome_trace(str(path))
        return Profiled(tables=tables_of(path.read_text(encoding="utf-8", errors="replace")))

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
        """Make the model ready as for measuring, and do some inferences inside ``watch``.

        Raises:
            BackendError: As in ``measure``.
        """
        with self._ready(job, context) as ready:
            for _ in range(3):
                ready.call()
            _synchronize(ready)
            with watch:
                for _ in range(inferences):
                    ready.call()
                    _synchronize(ready)

    def infer(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        inputs: dict[str, NDArray[np.generic]],
        context: Context,
    ) -> dict[str, NDArray[np.generic]]:
        """Return the module's outputs by name.

        Raises:
            BackendError: As in ``measure``.
        """
        with self._ready(job, context, inputs) as ready:
            result: dict[str, NDArray[np.generic]] = torch_run.to_arrays(ready.torch, ready.call(), ready.model.outputs)
            return result

    @contextmanager
    def _ready(self, job: Job, context: Context, inputs: dict[str, NDArray[Any]] | None = None) -> Iterator[Ready]:
        """Hold a module that is ready to be called; ``inputs`` stand in for the seeded ones."""
        options = parse_options(job.options, self.name)
        torch = torch_find.import_torch(context.cache_dir)
        device = torch_run.choose_device(torch, options.torch_device)
        check_precision(job.precision, device, autocast=options.autocast)
        torch_run.settle_arithmetic(torch, job.precision, options.threads)
        with warnings.catch_warnings(), translated(model=job.model_path, precision=job.precision):
            warnings.simplefilter("ignore")  # torch and its compilers warn about themselves: nothing here can act on it
            kept = self._kept
            fresh = kept is None or kept[0] != job
            ready = _loaded(torch, job, device, options) if kept is None or fresh else kept[1]
            with torch_run.inference(torch, job.precision, device, options):
                if fresh:
                    self._compile(job, ready, context)
                    self._kept = (job, ready)
                yield _with_inputs(ready, job, inputs)

    def _compile(self, job: Job, ready: Ready, context: Context) -> None:
        """Replace ``ready.module`` by what a compiler makes of it; eager mode has none."""


def _float_type(torch: Any, job: Job, options: TorchOptions) -> Any:  # noqa: ANN401 - torch is given
    return torch.float32 if options.autocast else getattr(torch, DTYPES[job.precision])


def _loaded(torch: Any, job: Job, device: str, options: TorchOptions) -> Ready:  # noqa: ANN401
    float_type = _float_type(torch, job, options)
    model = load(torch, job, float_type)
    module = model.module if model.converted else model.module.to(float_type)
    return Ready(
        torch=torch,
        device=device,
        options=options,
        model=model,
        module=module.to(device),
        tensors=torch_run.to_device(torch, model.inputs, device, float_type),
    )


def _with_inputs(ready: Ready, job: Job, inputs: dict[str, NDArray[Any]] | None) -> Ready:
    if inputs is None:
        return ready
    given = {name: inputs[name] for name in ready.model.inputs}
    float_type = _float_type(ready.torch, job, ready.options)
    return replace(ready, tensors=torch_run.to_device(ready.torch, given, ready.device, float_type))


def _timed(ready: Ready, job: Job, context: Context) -> tuple[Window, torch_run.Inference]:
    events = None
    if ready.device == "cuda":
        make = ready.torch.cuda.Event
        events = (make(enable_timing=True), make(enable_timing=True))
    infer = torch_run.Inference(call=ready.call, events=events)
    context.enter(Phase.WARMUP)
    expected_ns = warm_up(infer.run, job.warmup_s)
    options = ready.options
    delay_ns = round(options.inject_delay_ms * 1e6 + expected_ns * options.inject_delay_pct / 100)
    timed = delayed(infer.run, delay_ns) if delay_ns else infer.run
    before = ready.compiled()
    context.enter(Phase.MEASURE)
    window = measure(
        timed,
        duration_s=job.duration_s,
        expected_ns=expected_ns + delay_ns,
        report=context.progress,
        after=infer.keep,
    )
    again = ready.compiled() - before
    if again:
        ready.reasons.append(Reason(code="compiled_again", detail=f"{again} graphs"))
    return window, infer


def _realised(torch: Any, ready: Ready, precision: str) -> str | None:  # noqa: ANN401
    """Return the type that the weights have, by count of elements; TF32 is a mode of fp32 weights."""
    if ready.options.autocast:
        return precision
    sizes: dict[str, int] = {}
    for tensor in (*ready.model.module.parameters(), *ready.model.module.buffers()):
        if tensor.is_floating_point():
            name = str(tensor.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + tensor.numel()
    if not sizes:
        return None
    words = {"float32": "tf32" if precision == "tf32" else "fp32", "float16": "fp16", "bfloat16": "bf16"}
    most = max(sizes, key=lambda name: sizes[name])
    return words.get(most, most)


def _synchronize(ready: Ready) -> None:
    if ready.device == "cuda":
        ready.torch.cuda.synchronize()


def _cuda_versions(torch: Any) -> dict[str, str]:  # noqa: ANN401
    found = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {name: str(version) for name, version in found.items() if version}
