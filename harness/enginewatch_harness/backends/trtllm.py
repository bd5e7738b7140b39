"""TensorRT-LLM: engines by ``trtllm-build``, measured by ``trtllm-bench``. Its server is a profile of ``openai``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement
from enginewatch_harness.backends.stored_reasons import build_reasons
from enginewatch_harness.backends.trtexec_find import gpu_name
from enginewatch_harness.backends.trtllm_command import (
    BenchFiles,
    bench_command,
    build_command,
    check_load,
    llm_config,
)
from enginewatch_harness.backends.trtllm_dataset import dataset_lines
from enginewatch_harness.backends.trtllm_engine import (
    check_engine,
    engine_record,
    is_engine,
    read_model,
    require_precision,
)
from enginewatch_harness.backends.trtllm_find import BENCH, BUILD, TrtllmTool, find_tool
from enginewatch_harness.backends.trtllm_options import TrtllmOptions, parse_options
from enginewatch_harness.backends.trtllm_results import (
    REPORT,
    Bench,
    metrics_of,
    read_bench,
    read_iterations,
    read_optional,
    read_report,
    reasons_of,
)
from enginewatch_harness.importers.trtllm_text import has_report
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import context_tokens
from enginewatch_harness.parse.trtllm_failures import failure, last_words
from enginewatch_harness.parse.trtllm_quant import Quantisation, unrealised
from enginewatch_harness.process import ToolResult, run_tool
from enginewatch_harness.targets.watch import ServerSide

PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4")
"""A checkpoint has its precision; which of them run depends on the GPU."""

EXTRA_TOKENS = 8
"""Tokens that a tokenizer may put around a prompt, for the limit of an engine."""


class TrtllmBackend:
    """Runs ``trtllm-bench`` in a process of its own, and builds engines where the plan asks for them."""

    name = "trtllm"
    tool_options = ("trtllm_bench",)
    """The one that measures; another version of ``trtllm-build`` is in the engine's options."""

    def availability(self) -> Availability:
        """Say whether ``trtllm-bench`` is here, and which version."""
        return self.availability_of({})

    def availability_of(self, options: Json) -> Availability:
        """Say the same of the ``trtllm-bench`` that a plan names."""
        try:
            tool = find_tool(BENCH, options.get("trtllm_bench"))
        except NotAvailableError as error:
            return Availability(available=False, why=error.message, remedy=error.remedy)
        return Availability(available=True, version=tool.version, device=gpu_name(), precisions=PRECISIONS)

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options)

    def engine_options(self, job: Job) -> Json | None:
        """Return what an engine depends on; ``None`` where none is built.

        Raises:
            PlanError: An option of the plan is unknown or has a bad value, or the load cannot be made.
        """
        options = parse_options(job.options)
        if job.load is not None:
            check_load(job.load, options)
        if not options.builds or is_engine(job.model_path):
            return None
        return {
            "max_seq_len": options.max_seq_len or _tokens(job.load),
            "max_batch_size": options.max_batch_size,
            "max_num_tokens": options.max_num_tokens,
            "max_input_len": options.max_input_len,
            "gemm_plugin": options.gemm_plugin,
            "args": list(options.build_args),
            **_builder(options),
        }

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Build an engine into the folder ``target``, and read back what it is.

        Raises:
            BackendError: With the code that the tool's own words stand for; ``build_failed``; ``timeout``.
            PlanError: An option of the plan is unknown or has a bad value.
        """
        options = parse_options(job.options)
        tool = find_tool(BUILD, options.trtllm_build)
        require_precision(job, read_model(job.model_path))
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp").absolute()
        command = build_command(
            tool.path,
            options,
            checkpoint=job.model_path.absolute(),
            output=temporary,
            tokens=_tokens(job.load),
        )
        what = f"build of {job.case_key}"
        try:
            result = _run(command, _folder(context), BUILD, options.build_timeout_s)
            log = _text(result)
            record = engine_record(temporary, target, log, result, tool, what)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return record

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Load the model in a fresh process, warm up, and put the requests of the load on it.

        Raises:
            BackendError: With the code that the tool's own words stand for; no report, or one that cannot be used
                (``load_failed``); ``timeout``.
            PlanError: An option of the plan is unknown or has a bad value, or the load cannot be made.
        """
        context.enter(Phase.LOAD)
        if job.load is None:
            raise BackendError(
                f"{job.case_key}: trtllm-bench needs a load",
                code="no_samples",
                remedy="add [[workload.load]] to the plan",
            )
        options = parse_options(job.options)
        check_load(job.load, options)
        tool = find_tool(BENCH, options.trtllm_bench)
        engine_dir = engine_path or (job.model_path if options.builds else None)
        config = read_model(engine_dir or job.model_path)
        check_engine(job, options, config, tool)
        require_precision(job, config)
        files = _files(_folder(context))
        count = options.requests(job.load.concurrency, job.load.requests)
        lines = dataset_lines(
            job.load, seed=job.seed, requests=count, vocab_size=config.vocab_size if config is not None else None
        )
        _prepare(files, lines, llm_config(options))
        command = _command(job, job.load, options, tool, engine_dir, files, count)
        began_ns = time.monotonic_ns()
        result = _run(command, _folder(context), BENCH, options.run_timeout_s)
        ended_ns = time.monotonic_ns()
        log = _text(result)
        reasons = (*_judge(result, files, log, job.case_key), *build_reasons(engine))
        bench = read_bench(
            read_report(read_optional(files.report), log),
            read_optional(files.requests),
            job.load,
            ended_ns=ended_ns,
            began_ns=began_ns,
            t0_ns=context.t0_ns,
        )
        phases = ((Phase.LOAD, began_ns), (Phase.MEASURE, bench.window_ns[0]), (Phase.DRAIN, bench.window_ns[1]))
        server = read_iterations(read_optional(files.iterations), log, bench, t0_ns=context.t0_ns, phases=phases)
        context.enter(Phase.MEASURE)
        context.enter(Phase.DRAIN)
        return _measurement(job, options, tool, command, bench, server, reasons)


def _builder(options: TrtllmOptions) -> Json:
    """Return the version of what builds, where it is another than that of what measures, which is in the key."""
    try:
        built, measured = find_tool(BUILD, options.trtllm_build), find_tool(BENCH, options.trtllm_bench)
    except NotAvailableError:
        return {}
    return {} if built.version == measured.version else {"trtllm_build": built.version}


def _command(
    job: Job,
    load: LoadSpec,
    options: TrtllmOptions,
    tool: TrtllmTool,
    engine_dir: Path | None,
    files: BenchFiles,
    count: int,
) -> list[str]:
    folder = Path(options.hf_model) if options.hf_model is not None else job.model_path
    local = folder.absolute() if folder.is_dir() else None
    name = job.model_name if local is not None else options.hf_model or str(job.model_path)
    return bench_command(
        tool.path,
        options,
        model=name,
        model_path=local,
        engine_dir=engine_dir.absolute() if engine_dir is not None else None,
        load=load,
        requests=count,
        files=files,
        config=llm_config(options),
        version=tool.version,
    )


def _run(command: list[str], work_dir: Path, prefix: str, timeout_s: float) -> ToolResult:
    try:
        return run_tool(command, cwd=work_dir, timeout_s=timeout_s, log_prefix=work_dir / prefix)
    except OSError as error:
        raise NotAvailableError(f"{command[0]} cannot be started: {error}", remedy=f"reinstall {prefix}") from error


def _text(result: ToolResult) -> str:
    """Return both outputs; the report is on the first, so it comes last and is the last that is found."""
    parts = (result.stderr, result.stdout)
    texts = [part.decode("utf-8", errors="replace").replace("\r", "\n") for part in parts]
    return texts[0] + ("" if texts[0].endswith("\n") or not texts[0] else "\n") + texts[1]


def _folder(context: Context) -> Path:
    folder = context.work_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files(folder: Path) -> BenchFiles:
    return BenchFiles(
        dataset=folder / "trtllm-bench.dataset.jsonl",
        report=folder / REPORT,
        requests=folder / "trtllm-bench.requests.json",
        iterations=folder / "trtllm-bench.iterations.jsonl",
        config=folder / "trtllm-bench.config.yaml",
        workspace=folder,
    )


def _prepare(files: BenchFiles, lines: Iterable[str], config: Json) -> None:
    """Write the tool's inputs, and remove what an earlier run left: a run that fails writes nothing."""
    for path in (files.report, files.requests, files.iterations):
        path.unlink(missing_ok=True)
    with files.dataset.open("w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in lines)
    # YAML reads JSON.
    files.config.write_text(json.dumps(config, indent=1), encoding="utf-8")


def _tokens(load: LoadSpec | None) -> int:
    return EXTRA_TOKENS + (context_tokens(load) if load is not None else 0)


def _judge(result: ToolResult, files: BenchFiles, log: str, what: str) -> tuple[Reason, ...]:
    """Return what the way it ended means for a run that has a report.

    Raises:
        BackendError: It has none.
    """
    reported = read_optional(files.report) is not None
    if result.returncode == 0:
        if not reported and not has_report(log):
            raise failure(log, 0, what=f"{what}: no report", tool=BENCH, otherwise="load_failed")
        return ()
    if not reported:
        raise failure(log, result.returncode, what=what, tool=BENCH, otherwise="crashed")
    # The report is written before the engine is shut down, which is when its workers crash.
    return (Reason(code="teardown_crash", detail=f"status {result.returncode} after the report: {last_words(log)}"),)


def _measurement(
    job: Job,
    options: TrtllmOptions,
    tool: TrtllmTool,
    command: list[str],
    bench: Bench,
    server: ServerSide,
    reasons: tuple[Reason, ...],
) -> Measurement:
    report, load = bench.report, job.load
    found = report.quantisation
    differs = unrealised(job.precision, options.kv_cache_dtype, found)
    if differs is not None:
        reasons = (*reasons, Reason(code="precision_not_realised", detail=differs))
    tables = dict(server.tables) if bench.table is None else {"llm_requests": bench.table, **server.tables}
    version = report.run.server_version or tool.version
    return Measurement(
        tables=tables,
        window_ns=bench.window_ns,
        metrics=metrics_of(bench, server),
        reasons=reasons_of(bench, reasons),
        realised_precision=found.said,
        effective_options={
            "command": options.command,
            "engine": report.backend or options.engine,
            "streaming": options.streams,
            "kv_cache": found.kv_cache or "auto",
            "iteration_log": options.iteration_log,
            "warmup_requests": options.warmup(load.concurrency if load is not None else 1),
            **report.effective,
        },
        versions={"tensorrt-llm": version} if version else {},
        command=shlex.join(command),
        counts=bench.judgement.counts,
        notes=(*_notes(options, found), *bench.notes, *bench.judgement.notes, *server.notes),
        device=report.run.device,
        device_count=report.run.device_count,
    )


def _notes(options: TrtllmOptions, found: Quantisation) -> tuple[str, ...]:
    kv = found.kv_cache or "as the activations"
    said = f"by the report, weights are {found.algo or found.dtype or 'not told'}, the KV cache is {kv}"
    asked = f" (asked for: {options.kv_cache_dtype})" if options.kv_cache_dtype else ""
    return (said + asked, "trtllm-bench counts requests, not seconds: warmup_s and duration_s of the plan do not apply")
