"""Child processes: the one file of the harness that imports ``subprocess``.

Every child leads a session and a process group of its own, and its standard input is a pipe that only this
process writes to. So a whole group can be stopped by its id, and nothing survives this process, even after
``kill -9``: our own programs call ``die_with_parent()``, foreign tools run under ``guard.py``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_harness import guard

TAIL_BYTES = 4_000
"""How much of a log goes into an error message: about forty lines."""


Child = subprocess.Popen[bytes]
"""A child process as ``start`` returns it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """How a tool ended and what it wrote.

    Attributes:
        returncode: Exit status; negative: the number of the signal that killed it.
        stdout: All of its standard output, as bytes: it need not be UTF-8.
        stderr: All of its standard error.
        duration_s: From start to end on the monotonic clock.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    duration_s: float


def die_with_parent() -> None:
    """Kill this process and its group when the parent that started it with ``start`` ends, however it ends.

    Call it once, first thing, in a child that does not need its standard input. It starts a daemon thread.
    """
    guard.watch(0)


def start(
    argv: Sequence[str],
    *,
    stdout: Path,
    stderr: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    guarded: bool = False,
    pass_fds: Collection[int] = (),
) -> Child:
    """Start a child in its own session and process group, with its output in two files.

    Args:
        argv: Program and arguments; no shell.
        stdout: File that receives standard output; overwritten.
        stderr: File that receives standard error; overwritten.
        cwd: Working directory; this process's where ``None``.
        env: The whole environment; this process's where ``None``.
        guarded: Put ``guard.py`` in front, for a program that does not call ``die_with_parent``.
        pass_fds: Descriptors that stay open in the child, under their numbers.

    Raises:
        OSError: The program does not exist or cannot be executed.
    """
    command = [sys.executable, "-I", "-S", guard.__file__, *argv] if guarded else list(argv)
    with stdout.open("wb") as out, stderr.open("wb") as err:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=None if env is None else dict(env),
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )


def signal_group(process: Child, number: signal.Signals) -> None:
    """Send a signal to the child's whole group; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def stop_group(process: Child, grace_s: float) -> int:
    """End the child and everything in its group, and reap the child.

    SIGTERM first; what is left after ``grace_s`` seconds, or outlives the child itself, gets SIGKILL.

    Returns:
        The child's exit status; negative: the number of the signal that ended it.
    """
    if process.poll() is None:
        signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
    # Members may outlive their leader. Their group keeps its id from being used again, so this hits no one else.
    signal_group(process, signal.SIGKILL)
    returncode = process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    return returncode


def tail(path: Path, limit: int = TAIL_BYTES) -> str:
    """Return the end of a log as text: at most ``limit`` bytes, empty where there is no file."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - limit))
            return log.read().decode("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def on_cores(cores: Collection[int] | None) -> Iterator[None]:
    """Keep the calling thread on these cores for a while; ``None`` changes nothing."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_tool(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    timeout_s: float | None = None,
    env: Mapping[str, str] | None = None,
    log_prefix: Path,
) -> ToolResult:
    """Run a foreign tool to its end, with standard output and error captured apart.

    Output goes to the files ``<log_prefix>.stdout.log`` and ``<log_prefix>.stderr.log``, which stay, so it is
    there even when this process is killed, and a grandchild that keeps them open blocks no one.

    Args:
        argv: Program and arguments; no shell.
        cwd: Working directory; this process's where ``None``.
        timeout_s: Seconds after which the whole group is killed; ``None``: never.
        env: The whole environment; this process's where ``None``.
        log_prefix: Path of the logs, without their suffixes.

    Raises:
        FileNotFoundError: There is no such program.
        BackendError: It did not end in time (code ``timeout``).
    """
    _require_program(argv[0], cwd, env)
    stdout, stderr = (log_prefix.with_name(f"{log_prefix.name}.{name}.log") for name in ("stdout", "stderr"))
    began_ns = time.monotonic_ns()
    process = start(argv, stdout=stdout, stderr=stderr, cwd=cwd, env=env, guarded=True)
    try:
        process.wait(timeout=timeout_s)
        duration_s = (time.monotonic_ns() - began_ns) / 1e9
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)
        raise BackendError(
            f"{Path(argv[0]).name} did not end within {timeout_s:g} s and was killed; its last words: "
            f"{tail(stderr, 400) or tail(stdout, 400) or '(none)'}",
            code="timeout",
            remedy=f"read {stdout} and {stderr}, or raise the time limit",
        ) from None
    finally:
        returncode = stop_group(process, 0)
    return ToolResult(
        returncode=returncode, stdout=stdout.read_bytes(), stderr=stderr.read_bytes(), duration_s=duration_s
    )


def _require_program(program: str, cwd: Path | None, env: Mapping[str, str] | None) -> None:
    """Say so here, because a guard could only tell by its exit status."""
    place = program if cwd is None or "/" not in program else str(cwd / program)
    if shutil.which(place, path=None if env is None else env.get("PATH")) is None:
        raise FileNotFoundError(f"no such program: {program!r}")
