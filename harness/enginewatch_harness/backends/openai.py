"""Any server that speaks OpenAI's protocol: one that runs somewhere already, or one that is launched for the run."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginewatch_db.errors import BackendError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import EngineRecord, Json, Phase
from enginewatch_harness.backends.base import Availability, Context, Job, Measurement
from enginewatch_harness.backends.openai_options import OpenAiOptions, headers_of, parse_options
from enginewatch_harness.load import outcome
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import context_tokens
from enginewatch_harness.load.target import Target
from enginewatch_harness.targets import extensions
from enginewatch_harness.targets.identify import ServerFacts
from enginewatch_harness.targets.profiles import metrics_paths
from enginewatch_harness.targets.reach import Reached, reach
from enginewatch_harness.targets.scraper import Found, Scraper, find, named
from enginewatch_harness.targets.server import LaunchedServer
from enginewatch_harness.targets.watch import Phases, ServerSide, per_gpu, server_side

SEED_LIMIT = 1 << 31
OPENAI_ENDPOINTS = frozenset({"completions", "chat"})
UNKNOWN_DEVICE = "unknown"
"""Device of a server behind a URL: nothing in HTTP tells it."""


class OpenAiBackend:
    """Puts a load on a server behind a URL, or on one that it launches."""

    name = "openai"

    def availability(self) -> Availability:
        """Say that it can work: the client is our own, and a server behind a URL needs nothing here."""
        return Availability(available=True, device=UNKNOWN_DEVICE, precisions=("any that a server serves",))

    def device_of(self, options: Json) -> str:
        """Return the device as the plan names it; the one of a launched server is read back later."""
        named = options.get("device_name")
        return named if isinstance(named, str) and named else UNKNOWN_DEVICE

    def check_options(self, options: Json) -> None:
        """Check the options of a plan.

        Raises:
            PlanError: An option is unknown or has a bad value.
        """
        parse_options(options)

    def engine_options(self, job: Job) -> Json | None:
        """Return ``None``: a server has no engine of ours. Checks the options, so that a plan fails early."""
        parse_options(job.options)
        return None

    def build(self, job: Job, target: Path, context: Context) -> EngineRecord:
        """Refuse: there is nothing to build.

        Raises:
            BackendError: Always (``build_failed``).
        """
        raise BackendError(f"{job.case_key}: a server has no engine to build", code="build_failed")

    def measure(self, job: Job, engine: EngineRecord | None, engine_path: Path | None, context: Context) -> Measurement:
        """Find or launch the server, put the load on it, and stop it if it was launched.

        Raises:
            BackendError: No load; a server that does not answer, dies, has another model or precision than the
                plan asks for, or answers no request.
            PlanError: Options that cannot be obeyed.
        """
        context.enter(Phase.LOAD)
        if job.load is None:
            raise BackendError(
                f"{job.case_key}: a server needs a load", code="no_samples", remedy="add [[workload.load]] to the plan"
            )
        options = parse_options(job.options)
        headers = headers_of(options, os.environ)
        watched = Phases(enter=context.enter)
        with reach(job, job.load, options, headers, context.work_dir) as reached:
            _check_fit(job, job.load, reached)
            target, seed = _target(job, options, headers, reached)
            with _scraper(options, reached, context.work_dir) as scraper:
                result = run_load(
                    target,
                    job.load,
                    warmup_s=job.warmup_s,
                    duration_s=job.duration_s,
                    seed=seed,
                    t0_ns=context.t0_ns,
                    on_phase=watched.on_phase,
                    on_progress=context.progress,
                )
            _require_result(result, reached.launched, context.work_dir)
        server = server_side(scraper.seen(), t0_ns=context.t0_ns, began=watched.began, window_ns=result.window_ns)
        return _measurement(job, options, reached, target, seed, result, server)


def _scraper(options: OpenAiOptions, reached: Reached, work_dir: Path) -> Scraper:
    if options.server_metrics == "off":
        found = Found(url=reached.url, absent='switched off: options.server_metrics = "off"')
    elif options.server_metrics == "auto":
        found = find(reached.ask, reached.url, metrics_paths(reached.facts.family))
    else:
        found = named(options.server_metrics, reached.url)
    given = [
        item for header, variable in options.headers_env.items() for item in ("--header-env", f"{header}={variable}")
    ]
    if options.api_key_env is not None:
        given += ["--bearer-env", options.api_key_env]
    if options.ca_file is not None:
        given += ["--ca-file", str(Path(options.ca_file).absolute())]
    if not options.verify_tls:
        given.append("--insecure")
    return Scraper(found, interval_s=1 / options.scrape_hz, log_dir=work_dir, secrets=given)


def served_model(job: Job, options: OpenAiOptions, facts: ServerFacts) -> str:
    """Return the model's name in requests: the plan's, else the one that the server has. Pure.

    Raises:
        BackendError: The server lists several, or does not list what the plan names (``model_missing``).
    """
    listed = facts.models
    wanted = options.served_model
    launched_as_it_is = options.profile is not None and not listed
    if wanted is None and (launched_as_it_is or str(job.model_path) in listed):
        wanted = str(job.model_path)
    if wanted is not None:
        if listed and wanted not in listed and facts.family != "transformers":
            raise BackendError(
                f"the server has no model {wanted!r}; it lists {_some(listed)}",
                code="model_missing",
                remedy="correct options.served_model in the plan",
            )
        return wanted
    if len(listed) == 1:
        return listed[0]
    if not listed:
        raise BackendError(
            "the server lists no model under /v1/models",
            code="model_missing",
            remedy="name the model: options.served_model",
        )
    raise BackendError(
        f"the server has {len(listed)} models: {_some(listed)}",
        code="model_missing",
        remedy="name one: options.served_model",
    )


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _check_fit(job: Job, load: LoadSpec, reached: Reached) -> None:
    read = reached.read
    if read is not None and read.precision is not None and job.precision not in ("best", read.precision):
        raise BackendError(
            f"the server runs {read.said} weights ({read.where}), the plan asks for {job.precision}",
            code="unsupported_precision",
            remedy=f'serve the model in {job.precision}, or set precisions = ["best"] to measure it as it is',
        )
    limit, tokens = reached.facts.max_context, context_tokens(load)
    if limit is not None and tokens > limit:
        raise BackendError(
            f"isl + osl = {tokens} tokens (the longest request) exceed the server's context of {limit}",
            code="shape_outside_profile",
            remedy="lower isl or osl in the plan, or start the server with a longer context",
        )


def _target(job: Job, options: OpenAiOptions, headers: dict[str, str], reached: Reached) -> tuple[Target, int]:
    """Return where the load goes, and the seed of its prompts."""
    facts = reached.facts
    fields = extensions.request_fields(facts.family, facts.version, salt=secrets.token_urlsafe(32))
    seed = job.seed
    if options.fresh_prompts and not options.launches and not extensions.keeps_no_prompts(facts.family, facts.version):
        seed = secrets.randbelow(SEED_LIMIT)
    target = Target(
        url=reached.url,
        model=served_model(job, options, facts),
        endpoint=options.endpoint,
        stream=options.stream,
        min_tokens=facts.family in extensions.MIN_TOKENS and options.endpoint in OPENAI_ENDPOINTS,
        body={**fields, **options.body},
        headers=headers,
        timeout_s=options.request_timeout_s,
        outage_s=options.outage_s,
        ca_file=None if options.ca_file is None else Path(options.ca_file),
        verify_tls=options.verify_tls,
    )
    return target, seed


def _require_result(result: LoadResult, launched: LaunchedServer | None, work_dir: Path) -> None:
    """Turn a load that says nothing about the server into an error that keeps what was measured."""
    done = outcome.completed(result.requests)
    died = next((reason.detail for reason in result.reasons if reason.code == "server_died"), None)
    if launched is not None and (how := launched.ended()) is not None:
        died = how
    if done and died is None:
        return
    kept = f"what was measured is in {outcome.keep(result.requests, work_dir)}"
    if died is None:
        raise outcome.nothing_completed(result.requests, remedy=f"try one request by hand; {kept}")
    if launched is not None:
        raise launched.failure(
            f"died under load ({died}), after {done} completed requests of the measuring phase; {kept}",
            code="server_died",
        )
    raise BackendError(
        f"the server died under load, after {done} completed requests of the measuring phase: {died}",
        code="server_died",
        remedy=f"read its log; {kept}",
    )


def _measurement(
    job: Job,
    options: OpenAiOptions,
    reached: Reached,
    target: Target,
    seed: int,
    result: LoadResult,
    server: ServerSide,
) -> Measurement:
    facts, read, device = reached.facts, reached.read, reached.device
    gpus = options.gpus or (device.count if device is not None and device.is_gpu else None)
    metrics = [*per_gpu(result.metrics, gpus), *server.metrics]
    absent = "the server ran before" if reached.load_time_s is None else None
    metrics.append(MetricValue(metric="load_time_s", value=reached.load_time_s, absent_reason=absent))
    effective: dict[str, Any] = {"server": facts.family, "endpoint": target.endpoint}
    if options.body:
        effective["body"] = json.dumps(options.body, sort_keys=True)
    if options.env:
        effective["env"] = json.dumps(options.env, sort_keys=True)
    return Measurement(
        tables={"llm_requests": result.requests, **server.tables},
        window_ns=result.window_ns,
        metrics=tuple(metrics),
        reasons=result.reasons,
        realised_precision=None if read is None else read.precision or read.said,
        effective_options=effective,
        versions={facts.family: facts.version} if facts.version else {},
        command=reached.command,
        counts=result.counts,
        notes=(*result.notes, *server.notes, *_notes(job, options, reached, target, seed)),
        device=options.device_name or (device.name if device else None),
        device_count=options.gpus or (device.count if device else None),
        own_pids=tuple(sorted(reached.pids)),
    )


def _notes(job: Job, options: OpenAiOptions, reached: Reached, target: Target, seed: int) -> Iterator[str]:
    facts, read = reached.facts, reached.read
    yield f"target: {facts.family} {facts.version or '(version unknown)'} at {reached.url}, model {target.model}"
    if options.device_name is None and reached.device is None:
        yield "the device behind the server is unknown: HTTP does not tell it; name it with options.device_name"
    elif reached.device is not None:
        yield f"device by {reached.device.where}"
    if read is None:
        yield f"precision was not read back: the plan's {job.precision} is taken on trust"
    else:
        yield f"precision by {read.where}: {read.said}"
    if seed != job.seed:
        yield f"prompts are new in each run, so that no prefix cache knows them: their seed was {seed}"
    shown = {key: value for key, value in target.body.items() if key != "cache_salt"}
    least = " and min_tokens as many as it asks for" if target.min_tokens else ""
    yield f"every request carries {json.dumps(shown, sort_keys=True)}{least}"
