"""The life of a launched server: start, wait until it answers, tell how it ended, stop with all of its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_harness import process
from enginewatch_harness.targets.failures import diagnose, last_words
from enginewatch_harness.targets.probe import Ask
from enginewatch_harness.targets.profiles import HOST

POLL_S = 0.05
CONTAINER_MODULE = "enginewatch_harness.targets.container"
CONTAINER_S = 10.0
"""What a container's daemon needs on top of the grace."""
LOG_TAIL_BYTES = 64 << 10
LOG_HEAD_BYTES = 4 << 20
"""Where a server says how it was configured; what it logs under load comes after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a server is started.

    Attributes:
        argv: Program and arguments.
        env: Environment variables on top of ours.
        ready: Path that answers 200 when requests can be sent.
        grace_s: How long it may take to end before it is killed.
        container: Name of the container that ``argv`` runs; ``None`` without.
        what: What to call it in messages.
    """

    argv: tuple[str, ...]
    ready: str
    what: str
    env: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 20.0
    container: str | None = None


def free_port() -> int:
    """Return a loopback port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Return whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class LaunchedServer:
    """A server in a context: it and all of its processes are gone when the context ends.

    Args:
        command: How to start it.
        log_dir: Folder for its logs, and its working directory.
        ask: Asks it for a path.
    """

    def __init__(self, command: Command, log_dir: Path, ask: Ask) -> None:
        self._command = command
        self._dir = log_dir
        self._out, self._err = log_dir / "server.stdout.log", log_dir / "server.stderr.log"
        self._ask = ask
        self._process: process.Child | None = None
        self._began_ns = 0
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self) -> Self:
        program = self._command.argv[0]
        if shutil.which(program) is None:
            raise NotAvailableError(
                f"there is no program {program!r} here, which starts {self._command.what}",
                remedy="install it and put it on PATH, or set options.command",
            )
        self._began_ns = time.monotonic_ns()
        container, grace = self._command.container, str(max(1, round(self._command.grace_s)))
        front = (sys.executable, "-m", CONTAINER_MODULE, container, grace) if container else ()
        self._process = process.start(
            [*front, *self._command.argv],
            stdout=self._out,
            stderr=self._err,
            cwd=self._dir,
            env={**os.environ, **self._command.env},
            guarded=container is None,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _child(self) -> process.Child:
        assert self._process is not None  # noqa: S101 (only inside the context)
        return self._process

    def pids(self) -> frozenset[int]:
        """Return the processes that it consists of now, the guard in front of it included."""
        with contextlib.suppress(psutil.NoSuchProcess):
            guard = psutil.Process(self._child().pid)
            for member in (guard, *guard.children(recursive=True)):
                self._family[member.pid] = member
        return frozenset(pid for pid, member in self._family.items() if member.is_running())

    def stop(self) -> None:
        """End it: SIGTERM to its group, SIGKILL after the grace, also to members that left the group."""
        if self._process is None:
            return
        self.pids()
        process.stop_group(self._process, self._command.grace_s + (CONTAINER_S if self._command.container else 0))
        for member in self._family.values():
            # is_running compares the start time too: an id that was used again is no member.
            with contextlib.suppress(psutil.Error):
                if member.is_running():
                    member.send_signal(signal.SIGKILL)
        psutil.wait_procs(list(self._family.values()), timeout=self._command.grace_s)

    def ended(self) -> str | None:
        """Return how it ended, or ``None`` while it runs."""
        status = self._child().poll()
        if status is None:
            return None
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def log_head(self) -> str:
        """Return the beginning of its logs: how it was configured."""
        return "\n".join(_head(path) for path in (self._err, self._out))

    def log_tail(self) -> str:
        """Return the end of its logs."""
        return "\n".join(process.tail(path, LOG_TAIL_BYTES) for path in (self._out, self._err)).strip()

    def failure(self, how: str, *, code: str) -> BackendError:
        """Return the error for a server that failed; its log may know a better code."""
        log = self.log_tail()
        found, remedy = diagnose(log) or (code, "raise options.ready_timeout_s" if code == "server_not_ready" else "")
        where = f"read {self._out} and {self._err}"
        return BackendError(
            f"{self._command.what} {how}: {last_words(log)}",
            code=found,
            remedy=f"{remedy}; {where}" if remedy else where,
        )

    def wait_until_ready(self, timeout_s: float) -> float:
        """Wait until it answers; return the seconds since its start.

        Raises:
            BackendError: It ended (a code by its log, else ``crashed``), or took too long (``server_not_ready``).
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (how := self.ended()) is not None:
                raise self.failure(f"{how} before it was ready", code="crashed")
            reply = self._ask(self._command.ready)
            if reply is not None and reply.status == 200:
                self.pids()
                return (time.monotonic_ns() - self._began_ns) / 1e9
            time.sleep(POLL_S)
        raise self.failure(f"was not ready after {timeout_s:g} s", code="server_not_ready")


def _head(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as log:
        return log.read(LOG_HEAD_BYTES).decode("utf-8", errors="replace")
