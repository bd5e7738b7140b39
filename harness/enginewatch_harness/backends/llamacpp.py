"""llama.cpp through xllamacpp: a GGUF served in a process of its own and measured over HTTP."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_harness import gguf_model, process
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement
from enginewatch_harness.backends.llamacpp_options import RANDOM_LLAMA, LlamaCppOptions, parse_options, split_cores
from enginewatch_harness.backends.llamacpp_process import MODULE, Listening, ServerProcess
from enginewatch_harness.backends.llamacpp_server import Settings, arguments
from enginewatch_harness.load import outcome
from enginewatch_harness.load.driver import spare_connections
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.spec_json import write_spec
from enginewatch_harness.load.synthetic import context_tokens
from enginewatch_harness.load.target import Target
from enginewatch_harness.targets.scraper import Found, Scraper
from enginewatch_harness.targets.watch import Phases, ServerSide, server_side

TEMPLATE_TOKENS = 64
"""Most that a chat template puts around a message, with a vocabulary of bytes."""

CONTEXT_MARGIN = 32
"""Tokens of context beyond prompt and answer: the text's beginning, a chat template, an inexact prompt length."""

CONTEXT_STEP = 256
"""llama.cpp pads each slot's context to this."""

NOT_SCRAPED = "not asked for: set options.server_metrics = true"


class LlamaCppBackend:
    """Serves a GGUF with llama.cpp and puts a load on it. The "engine" is a GGUF in the requested precision."""

    name = "llamacpp"

    def availability(self) -> Availability:
        """Say whether xllamacpp is installed, which version, and what it runs on."""
        try:
            import xllamacpp

            devices = [str(device["description"]) for device in xllamacpp.get_device_info() if _is_gpu(device)]
            version = metadata.version("xllamacpp")
        except (ImportError, OSError, metadata.PackageNotFoundError) as error:
            return Availability(available=False, why=f"xllamacpp: {error}", remedy="pip install xllamacpp")
        return Availability(
            available=True,
            version=version,
            device=devices[0] if devices else None,
            precisions=tuple(gguf_model.TENSOR_TYPES),
        )

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options)

    def engine_options(self, job: Job) -> Json | None:
        """Return what a generated model depends on; ``None`` where the model is a GGUF already."""
        options = parse_options(job.options)
        if options.generate is None:
            return None
        return {"generate": options.generate, "model_seed": options.model_seed, "shape": asdict(options.shape)}

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Write the random model in the requested precision.

        Raises:
            BackendError: There is nothing to generate (``build_failed``), or not in this precision
                (``unsupported_precision``).
        """
        options = parse_options(job.options)
        if options.generate is None:
            raise BackendError(
                f"{job.model_path.name} is used as it is: there is nothing to build",
                code="build_failed",
                remedy=f'set generate = "{RANDOM_LLAMA}" for the model in the plan',
            )
        began_ns = time.monotonic_ns()
        facts = gguf_model.write_random_llama(
            target, precision=job.precision, seed=options.model_seed, shape=options.shape
        )
        return EngineRecord(
            engine_key="",
            engine_sha256=gguf_model.sha256_of(target),
            path=str(target),
            size_bytes=facts.size_bytes,
            cached=False,
            build_time_s=(time.monotonic_ns() - began_ns) / 1e9,
            realised_precision=facts.precision,
            fingerprint=facts.structure,
            details={"tensor_types": facts.tensor_types, "n_params": facts.n_params, "n_vocab": facts.n_vocab},
        )

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Start the server, put the load on it, stop it.

        Raises:
            BackendError: No load, no model, a server that cannot start or dies, or no request that completed.
        """
        context.enter(Phase.LOAD)
        if job.load is None:
            raise BackendError(
                f"{job.case_key}: llama.cpp needs a load", code="no_samples", remedy="add [[workload.load]] to the plan"
            )
        options = parse_options(job.options)
        model = engine_path or job.model_path
        facts = gguf_model.read_facts(model)
        _check_fit(job, job.load, facts)
        cores = split_cores(os.sched_getaffinity(0), options)
        settings = server_settings(model, job.load, options, cores.server)
        with ServerProcess(settings, context.work_dir) as server:
            listening = server.wait_until_ready(options.ready_timeout_s)
            watched = Phases(enter=context.enter)
            with process.on_cores(cores.client), _scraper(listening.url, options, context.work_dir) as scraper:
                result = run_load(
                    load_target(listening.url, job.model_name, options),
                    job.load,
                    warmup_s=job.warmup_s,
                    duration_s=job.duration_s,
                    seed=job.seed,
                    t0_ns=context.t0_ns,
                    on_phase=watched.on_phase,
                    on_progress=context.progress,
                )
            _require_result(result, server, context.work_dir)
        seen = server_side(scraper.seen(), t0_ns=context.t0_ns, began=watched.began, window_ns=result.window_ns)
        return _measurement(job, job.load, facts, settings, options, listening, result, seen)


def _scraper(url: str, options: LlamaCppOptions, work_dir: Path) -> Scraper:
    """Return what watches the server. Off by default: its process takes some of the load generator's cores."""
    found = Found(url=url, path="/metrics") if options.server_metrics else Found(url=url, absent=NOT_SCRAPED)
    return Scraper(found, interval_s=1.0, log_dir=work_dir)


def _is_gpu(device: Json) -> bool:
    return "GPU" in getattr(device.get("type"), "name", "")


def server_settings(model: Path, load: LoadSpec, options: LlamaCppOptions, cores: tuple[int, ...] = ()) -> Settings:
    """Return how the server is started for a load: a slot and a context for each request in progress.

    Pure, but for the load's dataset.
    """
    slots = options.slots(load)
    # A session's history has the chat template around every message; one message is within the margin.
    templates = 2 * load.turns * TEMPLATE_TOKENS if load.turns > 1 else 0
    each = -(-(context_tokens(load) + templates + CONTEXT_MARGIN) // CONTEXT_STEP) * CONTEXT_STEP
    return Settings(
        model=model,
        port=options.port,
        parallel=slots,
        ctx=slots * each,
        threads=options.threads,
        http_threads=load.concurrency + spare_connections(load) + 4,  # and some for probes
        cores=cores,
        delay_ms=options.inject_delay_ms,
        metrics=options.server_metrics,
    )


def load_target(url: str, model_name: str, options: LlamaCppOptions) -> Target:
    """Return where the load goes: greedy, without an early end, without a prompt cache. Pure."""
    return Target(
        url=url,
        model=model_name,
        endpoint=options.endpoint,
        body={"temperature": 0, "ignore_eos": True, "cache_prompt": False},
        timeout_s=options.request_timeout_s,
    )


def _check_fit(job: Job, load: LoadSpec, facts: gguf_model.GgufFacts) -> None:
    if job.precision not in ("best", facts.precision):
        raise BackendError(
            f"{job.model_path.name} holds {facts.precision} weights, the plan asks for {job.precision}",
            code="unsupported_precision",
            remedy=f'convert the model to {job.precision}, or set precisions = ["best"] to measure it as it is',
        )
    tokens = context_tokens(load)
    if facts.context_length is not None and tokens > facts.context_length:
        raise BackendError(
            f"isl + osl = {tokens} tokens (the longest request) exceed the model's context of {facts.context_length}",
            code="shape_outside_profile",
            remedy="lower isl or osl in the plan",
        )


def _require_result(result: LoadResult, server: ServerProcess, work_dir: Path) -> None:
    """Turn a load that says nothing about the engine into an error that keeps what was measured."""
    how, done = server.ended(), outcome.completed(result.requests)
    if how is None and done:
        return
    kept = outcome.keep(result.requests, work_dir)
    if how is None:
        raise outcome.nothing_completed(result.requests, remedy=f"read {work_dir}/llamacpp.stderr.log")
    raise BackendError(
        f"llama.cpp's server was {how} under load, after {done} completed requests of the measuring "
        f"phase: {server.log_tail()}",
        code="server_died",
        remedy=f"read {work_dir}/llamacpp.stderr.log; what was measured is in {kept}",
    )


def _measurement(
    job: Job,
    load: LoadSpec,
    facts: gguf_model.GgufFacts,
    settings: Settings,
    options: LlamaCppOptions,
    listening: Listening,
    result: LoadResult,
    server: ServerSide,
) -> Measurement:
    notes = [*result.notes, *server.notes]
    if settings.delay_ms:
        notes.append(f"a relay adds {settings.delay_ms:g} ms to the gap before each event")
    if result.counts.get("tokens_per_event", 1.0) > 1.05:
        notes.append("the server packs several tokens in an event: itl is the latency between chunks")
    return Measurement(
        tables={"llm_requests": result.requests, **server.tables},
        window_ns=result.window_ns,
        metrics=(
            *result.metrics,
            *server.metrics,
            MetricValue(metric="load_time_s", value=listening.load_time_s),
        ),
        reasons=result.reasons,
        realised_precision=facts.precision,
        effective_options={
            "threads": settings.threads,
            "parallel": settings.parallel,
            "endpoint": options.endpoint,
            "prompt_cache": False,
            "pinned": bool(settings.cores),
        },
        versions={
            "xllamacpp": metadata.version("xllamacpp"),
            "llama.cpp": f"b{listening.build.get('build_number')} ({listening.build.get('commit')})",
            "llama.cpp compiler": str(listening.build.get("compiler")),
            "llama.cpp system": listening.system,
        },
        command=commands(job, load, settings, options),
        counts=result.counts,
        notes=tuple(notes),
    )


def commands(job: Job, load: LoadSpec, settings: Settings, options: LlamaCppOptions) -> str:
    """Return what a person types to start the same server and the same load. Pure."""
    port = settings.port or 8080
    server = [Path(sys.executable).name, "-m", MODULE, *arguments(settings)]
    server[server.index("--port") + 1] = str(port)
    target = load_target(f"http://127.0.0.1:{port}", job.model_name, options)
    generator = [Path(sys.executable).name, "-m", "enginewatch_harness.load", "--url", target.url]
    generator += ["--model", target.model, "--endpoint", target.endpoint, "--spec", write_spec(load)]
    generator += ["--warmup-s", f"{job.warmup_s:g}", "--duration-s", f"{job.duration_s:g}", "--seed", str(job.seed)]
    generator += ["--body", json.dumps(target.body)]
    return f"tail -f /dev/null | {shlex.join(server)}\n{shlex.join(generator)}"
