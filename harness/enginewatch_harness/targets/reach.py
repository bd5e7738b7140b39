"""Come to a server that answers: find it behind a URL, or launch it; and read back what it is."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_harness import provenance
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.openai_options import OpenAiOptions
from enginewatch_harness.load.spec import CLOSED, LoadSpec
from enginewatch_harness.load.synthetic import context_tokens
from enginewatch_harness.targets import gpu, local, precision, probe
from enginewatch_harness.targets.identify import ServerFacts, identify
from enginewatch_harness.targets.profiles import HOST, PROFILES, Launch, command_line, own_command, wants_config
from enginewatch_harness.targets.server import Command, LaunchedServer, free_port, port_is_free

OPEN_LOOP_REQUESTS = 8
"""Requests that a server with fixed slots is prepared for in an open loop, whose ceiling is no wish."""

GENERIC_READY = "/v1/models"
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A server that answers, and how it came to be.

    Attributes:
        url: Its root.
        ask: Asks it for a path.
        facts: What it says about itself.
        read: The precision that it runs; ``None`` where nothing tells.
        load_time_s: From its start to its first good answer; ``None`` where it was not started here.
        command: How a person starts it; ``None`` where it was not started here.
        device: What its processes run on; ``None`` where unknown.
        pids: Its processes on this machine; empty where it runs elsewhere.
        launched: The running server; ``None`` where it was not started here.
    """

    url: str
    ask: probe.Ask
    facts: ServerFacts
    read: precision.PrecisionRead | None = None
    load_time_s: float | None = None
    command: str | None = None
    device: gpu.Device | None = None
    pids: frozenset[int] = frozenset()
    launched: LaunchedServer | None = None


@contextlib.contextmanager
def reach(
    job: Job, load: LoadSpec, options: OpenAiOptions, headers: Mapping[str, str], work_dir: Path
) -> Iterator[Reached]:
    """Come to the server of a plan; a launched one is gone when the context ends.

    Raises:
        BackendError: Nothing answers (``server_not_ready``), or the launched server failed.
    """
    ca_file = None if options.ca_file is None else Path(options.ca_file)
    if options.url is not None:
        tls = probe.tls_of(options.url, ca_file=ca_file, verify=options.verify_tls)
        yield _found(options.url, options, headers, tls)
        return
    port = options.port or free_port()
    if not port_is_free(port):
        raise BackendError(
            f"port {port} on {HOST} is taken by another process",
            code="port_in_use",
            remedy="stop that process, or set options.port = 0 for a free one",
        )
    url = f"http://{HOST}:{port}"
    ask = probe.asker(url, headers=headers)
    command = launch_command(job, load, options, port, config=_config(options, work_dir))
    with LaunchedServer(command, work_dir, ask) as server:
        load_time_s = server.wait_until_ready(options.ready_timeout_s)
        facts = _with_version(identify(ask, family=options.family), options)
        yield Reached(
            url=url,
            ask=ask,
            facts=facts,
            read=read_precision(facts, server, job.model_path, asked=_is_flag(options.profile, job.precision)),
            load_time_s=load_time_s,
            command=shlex.join([*(f"{name}={value}" for name, value in command.env.items()), *command.argv]),
            device=gpu.device_of(pids := server.pids(), family=facts.family, count=options.tensor_parallel),
            pids=frozenset(pids),
            launched=server,
        )


def _found(url: str, options: OpenAiOptions, headers: Mapping[str, str], tls: probe.Tls) -> Reached:
    try:
        probe.get(url, GENERIC_READY, headers=headers, tls=tls)
    except (OSError, http.client.HTTPException) as error:
        raise BackendError(
            f"no server answers at {url}: {error}",
            code="server_not_ready",
            remedy="start it, or correct options.url in the plan",
        ) from error
    ask = probe.asker(url, headers=headers, tls=tls)
    facts = identify(ask, family=options.family)
    pids = local.server_pids(url)
    return Reached(
        url=url,
        ask=ask,
        facts=facts,
        read=precision.from_answers(facts.said),
        device=gpu.device_of(pids, family=facts.family, count=options.tensor_parallel) if pids else None,
        pids=pids,
    )


def _config(options: OpenAiOptions, work_dir: Path) -> Path | None:
    """Write the profile's configuration file, where it has one; YAML reads JSON."""
    if options.profile is None or not wants_config(options.profile, options.args):
        return None
    path = work_dir.absolute() / "server.config.yaml"
    path.write_text(json.dumps(PROFILES[options.profile].config), encoding="utf-8")
    return path


def launch_command(
    job: Job, load: LoadSpec, options: OpenAiOptions, port: int, *, config: Path | None = None
) -> Command:
    """Return how the server of a plan is started. Pure, but for our process id, which names a container."""
    name = f"enginewatch-{os.getpid()}-{port}"
    launch = Launch(
        model=str(job.model_path),
        served=options.served_model or job.model_name,
        port=port,
        precision=job.precision,
        tensor_parallel=options.tensor_parallel,
        concurrency=load.concurrency if load.mode == CLOSED else min(load.concurrency, OPEN_LOOP_REQUESTS),
        tokens=context_tokens(load),
        args=options.args,
        image=options.image,
        name=name,
        config=None if config is None else str(config),
    )
    if options.profile is None:
        return Command(
            argv=tuple(own_command(options.command, launch)),
            ready=options.ready_path or GENERIC_READY,
            what=Path(options.command[0]).name,
            env=options.env,
            grace_s=options.stop_grace_s,
            container=name if any("{name}" in part for part in options.command) else None,
        )
    profile = PROFILES[options.profile]
    return Command(
        argv=tuple(command_line(options.profile, launch)),
        ready=options.ready_path or profile.ready,
        what=options.profile,
        env=options.env,
        grace_s=options.stop_grace_s,
        container=name if profile.container else None,
    )


def _with_version(facts: ServerFacts, options: OpenAiOptions) -> ServerFacts:
    """Return the facts with the version that its command tells, or its image's tag, where it says none itself."""
    if facts.version is not None or options.profile is None:
        return facts
    profile = PROFILES[options.profile]
    text = provenance.tool_output(list(profile.version), timeout_s=60.0) if profile.version else None
    found = _VERSION.search(text or "")
    tag = (options.image or "").rpartition(":")[2] if profile.container else ""
    version = found[0] if found else tag or None
    return ServerFacts(
        family=facts.family, version=version, models=facts.models, max_context=facts.max_context, said=facts.said
    )


def _is_flag(profile: str | None, wanted: str) -> bool:
    return profile is not None and wanted in PROFILES[profile].precisions


def read_precision(
    facts: ServerFacts, server: LaunchedServer, model: Path, *, asked: bool
) -> precision.PrecisionRead | None:
    """Return the precision by the log, by the server's answers, or by the checkpoint.

    A checkpoint says what its weights are on disk: once the command line asked for an element type (``asked``), only
    its quantisation still says what runs.
    """
    found = precision.from_log(facts.family, server.log_head()) or precision.from_answers(facts.said)
    quantised, config = model / "hf_quant_config.json", model / "config.json"
    if found is None and quantised.is_file():
        found = precision.from_hf_quant(quantised.read_text(encoding="utf-8", errors="replace"))
    if found is None and config.is_file():
        found = precision.from_config(config.read_text(encoding="utf-8", errors="replace"))
        if found is not None and asked and found.precision in precision.DTYPES.values():
            return None
    return found
