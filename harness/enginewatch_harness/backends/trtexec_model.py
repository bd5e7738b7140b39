"""What trtexec is given of a case: the model with its precision, the shapes, the engine's file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import Json
from enginewatch_harness.backends.base import Context, Job
from enginewatch_harness.backends.trtexec_command import Tool, in_graph, weakly_typed
from enginewatch_harness.backends.trtexec_find import find_tool
from enginewatch_harness.backends.trtexec_options import TrtexecOptions
from enginewatch_harness.backends.trtexec_shapes import tuned_for
from enginewatch_harness.engine_cache import file_sha256
from enginewatch_harness.graph_precision import (
    Calibration,
    GraphModel,
    graph_identity,
    parse_calibration,
    prepare_graph,
)
from enginewatch_harness.onnx_inputs import read_inputs

_ENGINES = (".engine", ".plan", ".trt")


def work_folder(context: Context) -> Path:
    """Return the run's scratch folder, made where it is not there."""
    folder = context.work_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def identity_of_graph(job: Job, options: TrtexecOptions) -> Json:
    """Return what the graph depends on, where the precision goes into it."""
    try:
        tool = find_tool(options.trtexec)
    except NotAvailableError:
        return {}
    if not in_graph(tool, job.precision, options.precision_by):
        return {}
    typed = "flags and graph" if weakly_typed(tool, options.precision_by) else "graph"
    calibration = _calibration(job, tool, options)
    rest = {"quantize_rest": options.quantize_rest} if typed != "graph" else {}
    return {"precision_by": typed, **rest, **graph_identity(job.precision, calibration, job.shapes)}


def _calibration(job: Job, tool: Tool, options: TrtexecOptions) -> Calibration:
    """Return how the graph is quantised; a weakly typed builder chooses the rest itself, from an fp32 graph."""
    found = parse_calibration(job.options)
    return dataclasses.replace(found, rest="fp32") if weakly_typed(tool, options.precision_by) else found


def profile_shapes_of(job: Job, options: TrtexecOptions) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the engine is tuned for: part of its key."""
    if options.opt_batch is None or job.model_path.suffix in _ENGINES:
        return job.shapes
    return tuned_for(job.shapes, options, read_inputs(job.model_path))


def plugin_path(path: str) -> str:
    """Return a plugin's library as the tool finds it from another folder; a bare name is the dynamic loader's."""
    return str(Path(path).absolute()) if "/" in path or Path(path).is_file() else path


def identity_of_plugins(options: TrtexecOptions) -> Json:
    """Return the contents of the plugins' libraries; of one that only the dynamic loader finds, its name.

    Raises:
        BackendError: ``plugin_missing``: there is no such file.
    """
    found = []
    for path in map(plugin_path, options.plugins):
        if "/" in path and not Path(path).is_file():
            raise BackendError(
                f"the plugin library {path} does not exist", code="plugin_missing", remedy="correct the option plugins"
            )
        found.append(file_sha256(Path(path)) if "/" in path else path)
    return {"plugins": found} if found else {}


def model_of(job: Job, tool: Tool, options: TrtexecOptions, context: Context) -> GraphModel:
    """Return the model to build from: the file as given, or with its precision put into the graph."""
    if not job.model_path.is_file():
        raise BackendError(
            f"{job.model_path} does not exist", code="model_missing", remedy="check the model's path in the plan"
        )
    return prepare_graph(
        job.model_path,
        job.precision if in_graph(tool, job.precision, options.precision_by) else "fp32",
        shapes=job.shapes,
        calibration=_calibration(job, tool, options),
        cache_dir=context.cache_dir,
        work_dir=work_folder(context),
    )


def dynamic_shapes(job: Job) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inputs with an open dimension; trtexec refuses shapes for a static model."""
    if job.model_path.suffix in _ENGINES:
        return dict(job.shapes)
    declared = read_inputs(job.model_path)
    return {
        name: dims
        for name, dims in job.shapes.items()
        if any(not isinstance(dim, int) for dim in declared.get(name, ()))
    }


def engine_file(path: Path) -> Path:
    """Return the engine's absolute path.

    Raises:
        BackendError: ``model_missing``.
    """
    if not path.is_file():
        raise BackendError(f"the engine {path} does not exist", code="model_missing", remedy="build it again")
    return path.absolute()
