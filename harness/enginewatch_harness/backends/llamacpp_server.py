"""llama.cpp's own HTTP server, in a process of its own, set up to be measured.

    python -m enginewatch_harness.backends.llamacpp_server --model model.gguf --port 8080 --parallel 4

Prints one JSON line when it listens, or when it cannot: ``{"event": "listening", "url": ...}`` or
``{"event": "failed", "code": ..., "message": ...}``. Ends when its standard input does, and with it its group.

What is set, and why:
- Threads of generation and of prompt processing are given, never guessed from the machine.
- The prompt cache is off (per slot, in RAM, idle slots, context checkpoints, and no choice of a slot by
  similarity): a benchmark repeats itself more than users do, and its prefill would come from the cache.
- Continuous batching is on, with one slot per ``--parallel``, each with its own part of the context.
- One HTTP thread per connection that may be open, since each connection holds one; more connections than
  threads would wait in the server's accept queue, which no engine is to blame for.
- The process stays on the cores that it is given, and the load generator on others: a scheduler that puts both on
  one core makes tokens look late that were not.
- No web page, no fitting of parameters to memory, no downloads, and no log line per request.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enginewatch_harness.backends.llamacpp_relay import Relay
from enginewatch_harness.process import die_with_parent

WARNINGS = 2
"""llama.cpp's verbosity that keeps warnings and errors."""

FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is started.

    Attributes:
        model: The GGUF file.
        port: Loopback port; 0 for any free one.
        parallel: Slots: requests that are processed at once.
        ctx: Tokens of context, over all slots.
        threads: Threads of the computation.
        http_threads: Threads that hold connections.
        cores: Cores that the process stays on; empty: all.
        delay_ms: For tests of the gate: delay before each event, through a relay.
        metrics: Whether ``/metrics`` answers.
    """

    model: Path
    port: int = 0
    parallel: int = 1
    ctx: int = 4096
    threads: int = 1
    http_threads: int = 8
    cores: tuple[int, ...] = ()
    delay_ms: float = 0.0
    metrics: bool = False


def arguments(settings: Settings) -> list[str]:
    """Return the command line that ``parse`` turns into these settings."""
    found = []
    for name in ("model", "port", "parallel", "ctx", "threads", "http_threads"):
        found += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    if settings.cores:
        found += ["--cores", ",".join(str(core) for core in settings.cores)]
    if settings.metrics:
        found.append("--metrics")
    return [*found, "--delay-ms", repr(settings.delay_ms)] if settings.delay_ms else found


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(core) for core in text.split(","))


def parse(argv: list[str]) -> Settings:
    """Return the settings of a command line."""
    default = Settings(model=Path())
    parser = argparse.ArgumentParser(prog="llamacpp_server", description="Serve a GGUF to be measured.")
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--port", type=int, default=default.port, help="loopback port; 0: any free one")
    parser.add_argument("--parallel", type=int, default=default.parallel, help="requests processed at once")
    parser.add_argument("--ctx", type=int, default=default.ctx, help="tokens of context, over all slots")
    parser.add_argument("--threads", type=int, default=default.threads, help="threads of the computation")
    parser.add_argument("--http-threads", type=int, default=default.http_threads, help="connections held at once")
    parser.add_argument("--cores", type=_cores, default=default.cores, help="cores to stay on: 1,2,3")
    parser.add_argument("--delay-ms", type=float, default=default.delay_ms, help="for tests: delay before each event")
    parser.add_argument("--metrics", action="store_true", help="answer /metrics")
    return Settings(**vars(parser.parse_args(argv)))


def common_params(settings: Settings, *, port: int) -> Any:  # noqa: ANN401 (xllamacpp ships no types)
    """Return llama.cpp's parameters for these settings."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(settings.model)
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_threads_http = settings.http_threads
    params.n_parallel, params.cont_batching = settings.parallel, True
    params.n_ctx = settings.ctx
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.cache_prompt, params.cache_ram_mib, params.cache_idle_slots = False, 0, False
    params.n_ctx_checkpoints, params.slot_prompt_similarity = 0, 0.0
    params.fit_params, params.offline = False, True
    params.ui, params.verbosity = False, WARNINGS
    params.endpoint_metrics = settings.metrics
    return params


def _say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _refuse(code: str, message: str) -> int:
    _say(event="failed", code=code, message=message)
    return FAILED


def _is_free(port: int) -> bool:
    """Return whether the port can be bound. llama.cpp fails for a taken port as for a model that it cannot load."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Serve until killed."""
    settings = parse(sys.argv[1:] if argv is None else argv)
    if settings.cores:
        os.sched_setaffinity(0, settings.cores)  # before any thread is made: each inherits it
    die_with_parent()
    if settings.port and not _is_free(settings.port):
        return _refuse("port_in_use", f"port {settings.port} on 127.0.0.1 is taken by another process")
    import xllamacpp

    try:
        server = xllamacpp.Server(common_params(settings, port=0 if settings.delay_ms else settings.port))
    except RuntimeError as error:
        return _refuse("model_corrupt", f"llama.cpp could not load {settings.model}: {error}")
    url = str(server.listening_address)
    if settings.delay_ms:
        upstream = int(url.rpartition(":")[2])
        relay = Relay(port=settings.port, upstream_port=upstream, delay_s=settings.delay_ms / 1e3)
        url = f"http://127.0.0.1:{relay.start()}"
    build = {name: str(value) for name, value in xllamacpp.BUILD_INFO.items()}
    _say(event="listening", url=url, build=build, system=str(xllamacpp.get_system_info()))
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
