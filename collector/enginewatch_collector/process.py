"""The collector in its own process, so that its pauses never touch the load. This is what the harness uses."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from enginewatch_collector import config as files
from enginewatch_collector.backends.registry import BackendOptions, choose
from enginewatch_collector.config import CollectorConfig
from enginewatch_collector.result import CollectorResult, finalise
from enginewatch_collector.schedule import TickPlan
from enginewatch_db.errors import BackendError

__all__ = ["CollectorProcess", "CollectorResult"]

START_TIMEOUT_S = 60.0
"""Loading NVML without persistence mode initialises each GPU, which takes seconds."""
_ORPHAN_TIMEOUT_S = 5.0


class CollectorProcess:
    """A running collector. Use it as a context manager: no process stays behind."""

    def __init__(self, process: subprocess.Popen[bytes], out_dir: Path) -> None:
        self._process = process
        self._out_dir = out_dir
        self._result: CollectorResult | None = None

    @classmethod
    def start(
        cls,
        out_dir: Path,
        *,
        backends: tuple[str, ...] = ("auto",),
        rate_hz: float = 10.0,
        replay: Path | None = None,
        replay_phase: str | None = None,
        seed: int = 0,
        gpu_uuid: str | None = None,
        gpu_instance: int | None = None,
    ) -> CollectorProcess:
        """Start a collector and wait until it has made its first tick.

        Args:
            out_dir: Folder for its files; made when absent.
            backends: ``auto``, or any of ``host``, ``nvml``, ``replay``, ``synthetic``.
            rate_hz: Ticks per second.
            replay: Recording to play back in place of a GPU.
            replay_phase: Phase of the recording; ``None`` for all of it.
            seed: Seed of the ``synthetic`` backend.
            gpu_uuid: The one GPU to sample; ``None``: all that are visible.
            gpu_instance: The MIG slice of that GPU; ``None``: the whole of it.

        Raises:
            UsageError: An unknown backend, or a rate outside the possible.
            BackendError: The collector did not become ready (code ``collector_failed``).
        """
        choose(backends, replay=replay is not None)
        TickPlan.at_rate(0, rate_hz)
        out_dir.mkdir(parents=True, exist_ok=True)
        _remove_old_files(out_dir)
        options = BackendOptions(
            owner_pid=os.getpid(),
            replay=replay and replay.absolute(),
            replay_phase=replay_phase,
            seed=seed,
            gpu_uuid=gpu_uuid,
            gpu_instance=gpu_instance,
        )
        config = CollectorConfig(out_dir=out_dir.absolute(), backends=backends, rate_hz=rate_hz, options=options)
        with (out_dir / files.LOG_FILE).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "enginewatch_collector.process", config.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        collector = cls(process, out_dir)
        try:
            collector._await_ready()
        except BaseException:  # raised again: whatever ends the waiting, Ctrl-C included, leaves no child behind
            collector.kill()
            raise
        return collector

    @property
    def pid(self) -> int:
        """Process id of the collector."""
        return self._process.pid

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 10.0) -> CollectorResult:
        """Stop the collector and return what it brought; a second call returns the same.

        When it was killed or does not answer, what it had flushed is returned, with ``ended_early`` in the
        quality block.

        Args:
            timeout_s: Seconds to wait for its end before it is killed.

        Raises:
            BackendError: Nothing readable was left behind (code ``collector_failed``).
        """
        if self._result is None:
            self._end(b"stop\n", timeout_s)
            self._result = finalise(self._out_dir, exit_code=self._process.returncode)
        return self._result

    def kill(self) -> None:
        """End the process at once; what it flushed stays."""
        self._process.kill()
        self._end(b"", _ORPHAN_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._result is None:
            self._end(b"", _ORPHAN_TIMEOUT_S)

    def _end(self, last_words: bytes, timeout_s: float) -> None:
        """Close its stdin, which makes it write its files and exit, and wait for that."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is not None and not stdin.closed:
            # a collector that is gone already closed its end of the pipe
            with contextlib.suppress(BrokenPipeError):
                stdin.write(last_words)
                stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            if stdout is not None:
                stdout.close()

    def _await_ready(self) -> None:
        answer = self._first_line(time.monotonic() + START_TIMEOUT_S)
        try:
            message = json.loads(answer)
        except ValueError:
            message = {}
        if message.get("ready"):
            return
        if "message" in message:
            raise _failed(message["message"], message["remedy"])
        log = (self._out_dir / files.LOG_FILE).read_text(encoding="utf-8", errors="replace").strip()
        cause = log.splitlines()[-1] if log else f"no answer within {START_TIMEOUT_S:g} s"
        raise _failed(f"the collector did not start: {cause}", f"read {self._out_dir / files.LOG_FILE}")

    def _first_line(self, deadline_s: float) -> bytes:
        stdout = self._process.stdout
        text = b""
        while stdout is not None and not text.endswith(b"\n"):
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            part = os.read(stdout.fileno(), 4096) if ready else b""
            if not part:
                break
            text += part
        return text


def _remove_old_files(out_dir: Path) -> None:
    for name in (files.JOURNAL_FILE, files.TABLE_FILE, files.QUALITY_FILE):
        (out_dir / name).unlink(missing_ok=True)


def _failed(message: str, remedy: str | None) -> BackendError:
    return BackendError(message, code="collector_failed", remedy=remedy)


if __name__ == "__main__":
    from enginewatch_collector.child import main

    raise SystemExit(main(sys.argv[1:]))
