"""The life of a llama.cpp server process: start, wait until it answers, tell how it ended, stop."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Json
from enginewatch_harness import process
from enginewatch_harness.backends.llamacpp_server import Settings, arguments

MODULE = "enginewatch_harness.backends.llamacpp_server"
POLL_S = 0.01
LOG_S = 5.0
STOP_GRACE_S = 5.0
PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A server that answers.

    Attributes:
        url: Its root.
        load_time_s: From starting its process to its first good answer.
        build: Build facts of llama.cpp, as it tells them.
        system: What its kernels use (instruction sets), as it tells it.
    """

    url: str
    load_time_s: float
    build: dict[str, str]
    system: str


class ServerProcess:
    """A server in a context: it is stopped, with its whole group, when the context ends.

    Args:
        settings: How to start it.
        log_dir: Folder for its logs.
    """

    def __init__(self, settings: Settings, log_dir: Path) -> None:
        self._settings = settings
        self._out, self._err = log_dir / "llamacpp.stdout.log", log_dir / "llamacpp.stderr.log"
        self._process: process.Child | None = None
        self._began_ns = 0

    def __enter__(self) -> Self:
        argv = [sys.executable, "-m", MODULE, *arguments(self._settings)]
        self._began_ns = time.monotonic_ns()
        self._process = process.start(argv, stdout=self._out, stderr=self._err)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            process.stop_group(self._process, STOP_GRACE_S)

    @property
    def pid(self) -> int:
        """Process id, which is its group's id too."""
        assert self._process is not None  # noqa: S101 (only inside the context)
        return self._process.pid

    def log_tail(self) -> str:
        """Return the end of its log, for an error message."""
        return process.tail(self._err, 1_500) or "(its log is empty)"

    def ended(self) -> str | None:
        """Return how it ended, or ``None`` while it runs."""
        assert self._process is not None  # noqa: S101 (only inside the context)
        status = self._process.poll()
        if status is None:
            return None
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def wait_until_ready(self, timeout_s: float) -> Listening:
        """Wait until the server has loaded its model and answers.

        Raises:
            BackendError: It refused (``port_in_use``, ``model_corrupt``, ``out_of_memory``, ``unsupported_operator``),
                ended (``crashed``), or took too long (``server_not_ready``).
        """
        deadline = time.monotonic() + timeout_s
        event: Json | None = None
        while time.monotonic() < deadline:
            event = event or self._first_line()
            if event is not None and event["event"] == "failed":
                self._wait_for_the_log(min(deadline, time.monotonic() + LOG_S))
                raise self._refusal(str(event["code"]), str(event["message"]))
            if event is not None and _is_healthy(str(event["url"])):
                load_time_s = (time.monotonic_ns() - self._began_ns) / 1e9
                return Listening(
                    url=str(event["url"]), load_time_s=load_time_s, build=event["build"], system=event["system"]
                )
            if event is None and (how := self.ended()) is not None and self._first_line() is None:
                raise BackendError(f"llama.cpp's server was {how} while it loaded: {self.log_tail()}", code="crashed")
            time.sleep(POLL_S)
        raise BackendError(
            f"llama.cpp's server was not ready after {timeout_s:g} s: {self.log_tail()}",
            code="server_not_ready",
            remedy="raise the option ready_timeout_s, or use a smaller model",
        )

    def _wait_for_the_log(self, until: float) -> None:
        """Let the server end: llama.cpp logs from a thread of its own, which empties itself only then."""
        while self.ended() is None and time.monotonic() < until:
            time.sleep(POLL_S)

    def _first_line(self) -> Json | None:
        """Return the line that it prints when it listens, or cannot."""
        text = self._out.read_text(encoding="utf-8", errors="replace") if self._out.exists() else ""
        for line in text.splitlines(keepends=True):
            if line.startswith('{"event"') and line.endswith("\n"):
                found: Json = json.loads(line)
                return found
        return None

    def _refusal(self, code: str, message: str) -> BackendError:
        log = self.log_tail()
        if code == "port_in_use":
            return BackendError(
                message, code=code, remedy="stop that process, or set the option port = 0 for a free one"
            )
        if "unknown model architecture" in log:
            return BackendError(f"{message}: {log}", code="unsupported_operator", remedy="upgrade xllamacpp")
        if "failed to allocate" in log or "out of memory" in log:
            return BackendError(f"{message}: {log}", code="out_of_memory", remedy="lower parallel, osl or isl")
        return BackendError(f"{message}: {log}", code=code, remedy="convert the model again")


def _is_healthy(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
