"""From cases to jobs: find or generate the model, read its inputs, work out the engine's key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from enginewatch_db.errors import BackendError, NotAvailableError, PlanError
from enginewatch_db.model import Failure
from enginewatch_db.workspace import Workspace
from enginewatch_harness.backends.base import Availability, ChoosesDevice, Infers, Job
from enginewatch_harness.backends.option_values import integer
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.torch_options import EXPORTED, SCRIPTED
from enginewatch_harness.engine_cache import engine_key, file_sha256
from enginewatch_harness.input_data import ACCURACY, CALIBRATION, data_sha256, read_samples, resolve_data
from enginewatch_harness.load.datasets import sha256_of
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.matrix import Case
from enginewatch_harness.model_folder import folder_sha256, is_model_folder
from enginewatch_harness.models import GENERATORS, write_model
from enginewatch_harness.onnx_inputs import declared_inputs
from enginewatch_harness.option_check import check_options
from enginewatch_harness.plan_file import ModelTable, PlanFile
from enginewatch_harness.plan_load import resolved
from enginewatch_harness.provenance import cpu_device
from enginewatch_harness.registry import availability_for, backend

BACKEND_GENERATORS = ("random-llama",)
"""Generators whose file depends on the precision, so the backend writes it when it builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A case that is ready to run, or the reason why it is not.

    Attributes:
        job: ``None`` when ``failure`` is set.
        engine_key: ``None`` where the backend has no engine.
        dataset_sha256: Content hash of the load's dataset; ``None`` where it has none.
        calibration_sha256: Content hash of the option ``calibration_data``; ``None`` where there is none.
    """

    case: Case
    availability: Availability
    device: str
    model_sha256: str | None
    job: Job | None = None
    engine_key: str | None = None
    failure: Failure | None = None
    dataset_sha256: str | None = None
    calibration_sha256: str | None = None


def check_models(plan: PlanFile, folder: Path) -> None:
    """Refuse a plan whose files or generators do not exist, before anything is measured.

    Raises:
        PlanError: Names the model or workload, the path and the remedy.
    """
    for model in plan.model:
        if model.generate is not None and model.generate not in (*GENERATORS, *BACKEND_GENERATORS):
            known = ", ".join(sorted((*GENERATORS, *BACKEND_GENERATORS)))
            raise PlanError(f"model {model.name!r} has an unknown generator {model.generate!r}; known: {known}")
        if model.path is not None and not (folder / model.path).is_file() and not is_model_folder(folder / model.path):
            raise PlanError(
                f"model {model.name!r}: there is no file {folder / model.path}, nor a folder with a config.json",
                remedy="correct model.path in the plan (it is relative to the plan file)",
            )
    served = {model.name: model.served for model in plan.model if model.served is not None}
    for workload in plan.workload:
        if workload.batches and workload.model in served:
            raise PlanError(
                f"workload {workload.name!r} needs a model file, and {workload.model!r} has only the name "
                f"{served[workload.model]!r}",
                remedy="give the model a path, or the workload a load instead of batches",
            )
        for load in workload.load:
            files = {"dataset.path": load.dataset.path if load.dataset else None, "tokenizer": load.tokenizer}
            for key, path in files.items():
                if path is not None and not (folder / path).exists():
                    raise PlanError(
                        f"workload {workload.name!r}: there is no file {folder / path}",
                        remedy=f"correct load.{key} in the plan (it is relative to the plan file)",
                    )


def prepare(case: Case, *, plan: PlanFile, folder: Path, workspace: Workspace) -> Prepared:
    """Make a case ready; a failure that belongs to this case alone is returned, not raised.

    Raises:
        PlanError: The plan cannot be obeyed, here or anywhere: an option, a data set or a shape that cannot be.
    """
    check_options(case, plan)
    calibration = resolve_data(case.options, folder).get(CALIBRATION)
    calibration_sha256 = None if calibration is None else data_sha256(Path(calibration), CALIBRATION)
    found = availability_for(case.backend, case.options)
    device = _device(case, found)
    model_sha256: str | None = None
    load = None if case.load is None else resolved(case.load, folder)
    dataset_sha256 = sha256_of(load.dataset.path) if load is not None and load.dataset is not None else None
    try:
        if not found.available:
            raise NotAvailableError(f"backend {case.backend!r} is not available: {found.why}", remedy=found.remedy)
        path, model_sha256 = _model_file(case.model, folder, workspace)
        job = _job(case, plan, folder, path, load)
        options = backend(case.backend).engine_options(job)
        _check_accuracy_data(job, case.backend)
        key = None
        if options is not None and model_sha256 is not None:
            key = engine_key(
                model_sha256=model_sha256,
                backend=case.backend,
                version=found.version,
                device=device,
                precision=case.precision,
                options=options,
            )
        return Prepared(
            case=case,
            availability=found,
            device=device,
            model_sha256=model_sha256,
            job=job,
            engine_key=key,
            dataset_sha256=dataset_sha256,
            calibration_sha256=calibration_sha256,
        )
    except BackendError as error:
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        return Prepared(
            case=case,
            availability=found,
            device=device,
            model_sha256=model_sha256,
            failure=failure,
            dataset_sha256=dataset_sha256,
            calibration_sha256=calibration_sha256,
        )


def _check_accuracy_data(job: Job, name: str) -> None:
    """Refuse data that does not fit, before anything is measured: the check itself comes after the measurement.

    Raises:
        BackendError: As ``read_samples`` of the batches that the accuracy would be taken on.
    """
    path = job.options.get(ACCURACY)
    wanted = path is not None and job.options.get("accuracy", True) and isinstance(backend(name), Infers)
    if not wanted or not job.shapes or job.model_path.suffix != ".onnx":
        return
    most = integer(job.options, "accuracy_batches", OrtOptions().accuracy_batches, low=1)
    for _ in islice(read_samples(Path(str(path)), declared_inputs(job.model_path), job.shapes, ACCURACY), most):
        pass


def _device(case: Case, found: Availability) -> str:
    if case.bound is not None:
        return case.bound.name
    tool = backend(case.backend)
    if isinstance(tool, ChoosesDevice):
        return tool.device_of(case.options)
    return found.device or cpu_device()


def _model_file(model: ModelTable, folder: Path, workspace: Workspace) -> tuple[Path, str | None]:
    if model.served is not None:
        return Path(model.served), None
    if model.path is not None:
        path = (folder / model.path).absolute()
        return path, _content_sha256(path)
    kind = str(model.generate)
    if kind in BACKEND_GENERATORS:
        return Path(kind), hashlib.sha256(f"{kind}:{model.seed}".encode()).hexdigest()
    path = workspace.root / "models" / f"{kind}-seed{model.seed}.onnx"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_model(kind, path, seed=model.seed)
    return path, file_sha256(path)


def _content_sha256(path: Path) -> str:
    if path.is_dir():
        return folder_sha256(path)
    if path.suffix != ".onnx":
        return file_sha256(path)
    from enginewatch_harness.graph_precision.load import model_sha256

    try:
        return model_sha256(path)  # weights may lie beside the file
    except BackendError:
        # Whoever builds from it says better what is wrong with it.
        return file_sha256(path)


def _job(case: Case, plan: PlanFile, folder: Path, path: Path, load: LoadSpec | None) -> Job:
    options = resolve_data(case.options, folder)
    if case.model.generate in BACKEND_GENERATORS:
        options["generate"] = case.model.generate
        options["model_seed"] = case.model.seed
    return Job(
        case_key=case.key,
        workload=case.workload,
        model_path=path,
        model_name=case.model.name,
        precision=case.precision,
        shapes=_shapes(case, path) if case.batch is not None else {},
        warmup_s=case.warmup_s,
        duration_s=case.duration_s,
        load=load,
        options=options,
        seed=plan.seed,
        device_uuid=case.bound.uuid if case.bound else None,
        device_name=case.bound.name if case.bound else None,
    )


def _given_shapes(case: Case, path: Path, batch: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes as the plan gives them: only torch can read the file, and it takes seconds to import."""
    if not case.shapes:
        raise PlanError(
            f"workload {case.workload!r} gives no shapes, and {path.name} does not say them by itself",
            remedy='give every input, in the order of the arguments: shapes = { "input" = [3, 224, 224] }',
        )
    return {name: (batch, *dims) for name, dims in case.shapes.items()}


def _shapes(case: Case, path: Path) -> dict[str, tuple[int, ...]]:
    """Return the full input shapes: the batch in front, symbolic dimensions from the plan."""
    from enginewatch_harness.onnx_inputs import read_inputs

    batch = case.batch or 1
    if path.suffix in (EXPORTED, *SCRIPTED):
        return _given_shapes(case, path, batch)
    inputs = read_inputs(path)
    unknown = sorted(set(case.shapes) - set(inputs))
    if unknown:
        raise PlanError(
            f"workload {case.workload!r} gives shapes for {unknown[0]!r}, which is no input of {path.name}",
            remedy=f"its inputs: {', '.join(inputs)}",
        )
    shapes = {}
    for name, declared in inputs.items():
        rest = case.shapes.get(name, declared[1:])
        symbolic = [str(dimension) for dimension in rest if not isinstance(dimension, int)]
        if symbolic:
            raise PlanError(
                f"input {name!r} of {path.name} has the open dimension {symbolic[0]!r}",
                remedy=f'give it in the plan: shapes = {{ "{name}" = [...] }} under workload {case.workload!r}',
            )
        if declared and isinstance(declared[0], int) and declared[0] != batch:
            raise BackendError(
                f"{path.name} has a fixed batch of {declared[0]} in input {name!r}, the plan asks for {batch}",
                code="shape_outside_profile",
                remedy=f"set batches = [{declared[0]}] or export the model with a dynamic batch",
            )
        shapes[name] = (batch, *(int(dimension) for dimension in rest))
    return shapes
