"""The trtexec backend: TensorRT 8.6, 10 and 11 through their own command-line tool."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import BackendError, MeasurementError, NotAvailableError
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement, Profiled
from enginewatch_harness.backends.trtexec_command import (
    Tool,
    build_command,
    infer_command,
    precision_flags,
    precisions,
    profile_command,
    run_command,
    trace_command,
)
from enginewatch_harness.backends.trtexec_find import find_tool, gpu_name, plan_version
from enginewatch_harness.backends.trtexec_infer import raw_input
from enginewatch_harness.backends.trtexec_model import (
    dynamic_shapes,
    engine_file,
    identity_of_graph,
    identity_of_plugins,
    model_of,
    plugin_path,
    profile_shapes_of,
    work_folder,
)
from enginewatch_harness.backends.trtexec_options import TrtexecOptions, parse_options
from enginewatch_harness.backends.trtexec_results import (
    Outcome,
    engine_record,
    measurement,
    read_layers,
    read_optional,
    read_times,
    time_base,
)
from enginewatch_harness.onnx_inputs import input_dtypes, read_inputs
from enginewatch_harness.parse.trtexec_check import whole_options
from enginewatch_harness.parse.trtexec_json import Profile, parse_profile
from enginewatch_harness.parse.trtexec_layers import layers_table, realised_precision
from enginewatch_harness.parse.trtexec_lines import decode
from enginewatch_harness.parse.trtexec_log import TrtexecLog, judge_build, judge_run, parse_log
from enginewatch_harness.parse.trtexec_output import parse_output
from enginewatch_harness.parse.trtexec_reasons import contradictions
from enginewatch_harness.process import ToolResult, run_tool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RUN_MARGIN_S = 600.0
"""What starting, loading, reporting and the profile may take beside the measurement itself."""


class TrtexecBackend:
    """Builds and measures ONNX models with trtexec, in child processes."""

    name = "trtexec"
    tool_options = ("trtexec",)

    def availability(self) -> Availability:
        """Say whether trtexec is here, which version, and which precisions that version builds."""
        return self.availability_of({})

    def availability_of(self, options: Json) -> Availability:
        """Say the same of the trtexec that a plan names."""
        try:
            tool = find_tool(options.get("trtexec"))
        except NotAvailableError as error:
            return Availability(available=False, why=error.message, remedy=error.remedy)
        return Availability(available=True, version=tool.version, device=gpu_name(), precisions=precisions(tool))

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options)

    def engine_options(self, job: Job) -> Json:
        """Return what the engine depends on besides model, device, version and precision.

        Raises:
            BackendError: ``unsupported_precision``: nothing here puts this precision into a graph;
                ``plugin_missing``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options)
        return {
            "shapes": {name: list(dims) for name, dims in sorted(profile_shapes_of(job, options).items())},
            "max_batch": options.max_batch,
            "optimization_level": options.optimization_level,
            "workspace_mib": options.workspace_mib,
            "timing_cache": options.timing_cache is not None,
            **options.building(),
            **identity_of_plugins(options),
            **identity_of_graph(job, options),
        }

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Build an engine into ``target`` and read back what it is.

        The record's ``engine_key`` and ``path`` are ``target``'s name: the cache that owns the file knows better.
        A crash after the engine was saved is kept as a reason in ``details``, and every run of it carries it.

        Raises:
            BackendError: With the code that the tool's own words stand for; ``timeout``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = _options(job)
        tool = find_tool(options.trtexec)
        # Refuses an impossible precision before anything is converted.
        precision_flags(tool, job.precision, options.precision_by)
        work_dir = work_folder(context)
        graph = model_of(job, tool, options, context)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp").absolute()
        layers = work_dir / "trtexec-build.layers.json"
        command = build_command(
            tool,
            options,
            model=graph.path.absolute(),
            engine=temporary,
            precision=job.precision,
            shapes=dynamic_shapes(job),
            layers=layers,
            declared=read_inputs(job.model_path),
        )
        try:
            result = _run(command, work_dir, "trtexec-build", options.build_timeout_s, (layers,))
            log = parse_log(result.stdout, result.stderr)
            saved = temporary.is_file() and temporary.stat().st_size > 0
            reasons = judge_build(log, result.returncode, engine_saved=saved, what=f"build of {job.case_key}")
            if not saved:
                raise MeasurementError(f"build of {job.case_key}: trtexec saved no engine", code="build_failed")
            record = engine_record(
                temporary,
                log,
                target=target,
                process_time_s=result.duration_s,
                reasons=(*reasons, *log.reasons()),
                layers=read_layers(layers),
                command=command,
                model={
                    "sha256": graph.sha256,
                    "tool": graph.tool,
                    "tool_version": graph.tool_version,
                    "notes": list(graph.notes),
                    "inputs": input_dtypes(graph.path),
                },
            )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return record

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Load the engine in a fresh process, warm up, and time it; the profile, if asked for, comes after.

        Raises:
            BackendError: With the code that the tool's own words stand for; ``no_samples``; ``timeout``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = _options(job)
        tool = find_tool(options.trtexec)
        path = engine_file(engine_path or job.model_path)
        work_dir = work_folder(context)
        times_path, layers_path = work_dir / "trtexec.times.json", work_dir / "trtexec.layers.json"
        command = run_command(
            tool,
            options,
            engine=path,
            shapes=dynamic_shapes(job),
            warmup_s=job.warmup_s,
            duration_s=job.duration_s,
            times=times_path,
            layers=layers_path,
        )
        context.enter(Phase.LOAD)
        began_ns = time.monotonic_ns()
        limit_s = job.warmup_s + job.duration_s + _RUN_MARGIN_S
        result = _run(command, work_dir, "trtexec", limit_s, (times_path, layers_path))
        log = parse_log(result.stdout, result.stderr)
        reasons = _judged(log, result, job.case_key, tool, path)
        asked = _asked(options, job)
        # The source of tensorrt_rtx is not public: what it prints is not known.
        told = whole_options(log.options, asked, printed=not tool.rtx, what=job.case_key)
        log = dataclasses.replace(log, options=told)
        times = read_times(times_path, log, job)
        offset_ns = time_base(times, times_path, began_ns)
        context.enter(Phase.MEASURE)
        context.enter(Phase.DRAIN)
        outcome = Outcome(
            command=command,
            log=log,
            reasons=(*reasons, *contradictions(told, asked), *_other_device(log, job)),
            times=times,
            offset_ns=offset_ns,
            layers=read_layers(layers_path),
            unprinted=_unprinted(options),
            product="tensorrt_rtx" if tool.rtx else "tensorrt",
        )
        return measurement(outcome, engine, context.t0_ns)

    def profile(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Profiled:
        """Return times per layer, from a process of their own.

        Raises:
            BackendError: With the code that the tool's own words stand for; ``no_samples``.
        """
        options = _options(job)
        work_dir = work_folder(context)
        path = engine_file(engine_path or job.model_path)
        found = _profile(find_tool(options.trtexec), options, job, path, work_dir)
        layers = read_layers(work_dir / "trtexec-profile.layers.json")
        return Profiled(
            tables={"layers": layers_table(found, layers)}, realised_precision=realised_precision(layers, found)
        )

    def trace_command(
        self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context, inferences: int
    ) -> list[str]:
        """Return a short run of the engine with the measuring set, for a profiler around it.

        Raises:
            BackendError: trtexec or the engine is not there.
        """
        options = _options(job)
        path = engine_file(engine_path or job.model_path)
        tool = find_tool(options.trtexec)
        shapes = dynamic_shapes(job)
        return trace_command(tool, options, engine=path.absolute(), shapes=shapes, inferences=inferences)

    def infer(
        self,
        job: Job,
        engine: EngineRecord | None,
        engine_path: Path | None,
        inputs: dict[str, NDArray[np.generic]],
        context: Context,
    ) -> dict[str, NDArray[np.generic]]:
        """Run given inputs once, in a process of their own; floating-point outputs have six significant digits.

        Raises:
            BackendError: With the code that the tool's own words stand for; ``no_samples``; ``results_damaged``.
        """
        options = _options(job)
        tool = find_tool(options.trtexec)
        work_dir = work_folder(context)
        path = engine_file(engine_path or job.model_path)
        stored = (engine.details.get("model") or {}).get("inputs") if engine else None
        dtypes = stored or input_dtypes(job.model_path)
        files: dict[str, str] = {}
        for index, (name, values) in enumerate(sorted(inputs.items())):
            files[name] = f"trtexec-input{index}.bin"  # beside the process: no path with a colon or a comma
            (work_dir / files[name]).write_bytes(raw_input(values, dtypes.get(name), narrow=_narrow(tool)))
        output = work_dir / "trtexec-infer.output.json"
        command = infer_command(
            tool, options, engine=path, shapes=dynamic_shapes(job), inputs=files, output=Path(output.name)
        )
        result = _run(command, work_dir, "trtexec-infer", _RUN_MARGIN_S, (output,))
        log = parse_log(result.stdout, result.stderr)
        _judged(log, result, f"inference of {job.case_key}", tool, path)
        if not output.is_file():
            raise MeasurementError(f"inference of {job.case_key}: trtexec wrote no outputs", code="no_samples")
        found = {binding.name: binding.dtype for binding in log.bindings() if not binding.is_input}
        return parse_output(decode(output.read_bytes()), found)


def _narrow(tool: Tool) -> bool:
    """Return whether 64-bit integers become 32-bit ones: TensorRT before 10 has no others."""
    return not tool.rtx and tool.major < 10


def _asked(options: TrtexecOptions, job: Job) -> dict[str, float | bool]:
    return {
        **options.measuring(),
        "streams": options.streams,
        "multithreading": options.multithreading,
        "idle_ms": options.idle_ms,
        "sleep_ms": 0.0,
        "expose_dma": False,
        "warmup_ms": float(f"{job.warmup_s * 1000:g}"),
        "duration_s": float(f"{job.duration_s:g}"),
    }


def _unprinted(options: TrtexecOptions) -> Json:
    asked = {"managed_memory": options.managed_memory, "runtime_cache": options.runtime_cache is not None}
    return {name: value for name, value in asked.items() if value}


def _other_device(log: TrtexecLog, job: Job) -> tuple[Reason, ...]:
    """Return a reason where the tool ran on another GPU than the case is bound to; MIG slices have other ids there."""
    found, wanted = log.device.uuid, job.device_uuid
    if found is None or wanted is None or not wanted.startswith("GPU-") or found == wanted:
        return ()
    return (Reason(code="options_not_obeyed", detail=f"device: asked for {wanted}, measured on {found}"),)


def _judged(log: TrtexecLog, result: ToolResult, what: str, tool: Tool, engine: Path) -> tuple[Reason, ...]:
    try:
        return judge_run(log, result.returncode, what=what)
    except BackendError as error:
        built = plan_version(tool, engine) if error.code == "version_mismatch" else None
        if built is None:
            raise
        message = f"{error.message} (built by TensorRT {built}, run by {tool.version})"
        raise BackendError(message, code=error.code, remedy=error.remedy) from error


def _run(command: list[str], work_dir: Path, prefix: str, timeout_s: float, exports: tuple[Path, ...]) -> ToolResult:
    for export in exports:  # a file of an earlier run stays when the tool fails before it writes
        export.unlink(missing_ok=True)
    try:
        return run_tool(command, cwd=work_dir, timeout_s=timeout_s, log_prefix=work_dir / prefix)
    except OSError as error:
        raise NotAvailableError(f"{command[0]} cannot be started: {error}", remedy="set TRTEXEC to its path") from error


def _options(job: Job) -> TrtexecOptions:
    """Return the checked options; relative files are of the folder that the command was given in."""
    options = parse_options(job.options)
    return dataclasses.replace(
        options,
        timing_cache=_absolute(options.timing_cache),
        runtime_cache=_absolute(options.runtime_cache),
        plugins=tuple(map(plugin_path, options.plugins)),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _profile(tool: Tool, options: TrtexecOptions, job: Job, engine: Path, work_dir: Path) -> Profile:
    profile_path, layers_path = work_dir / "trtexec-profile.json", work_dir / "trtexec-profile.layers.json"
    command = profile_command(
        tool, options, engine=engine, shapes=dynamic_shapes(job), profile=profile_path, layers=layers_path
    )
    result = _run(command, work_dir, "trtexec-profile", _RUN_MARGIN_S, (profile_path, layers_path))
    log = parse_log(result.stdout, result.stderr)
    judge_run(log, result.returncode, what=f"profile of {job.case_key}")
    found = read_optional(profile_path, parse_profile) or log.profile()
    if found is None:
        raise MeasurementError(f"profile of {job.case_key}: trtexec wrote no layer times", code="no_samples")
    return found
