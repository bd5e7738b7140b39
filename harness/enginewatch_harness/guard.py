"""Run a tool that must not outlive the process that asked for it. Standard library only; run by its path.

    python -I -S guard.py tool argument ...

The guard leads the process group and holds the reading end of a pipe whose writing end only its parent has.
When the parent ends, however it ends, the pipe reports end of file and the guard kills the group. A signal
to the group reaches the tool; the guard itself waits for it and then ends the way the tool ended.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading

CANNOT_EXECUTE = 126
"""Exit status of a tool that exists and cannot be executed; the shells' convention (POSIX XCU 2.8.2)."""


def kill_group_at_eof(fd: int) -> None:
    """Block until ``fd`` reports end of file, then kill the caller's process group."""
    while True:
        try:
            if not os.read(fd, 4096):
                break
        except OSError:
            break
    os.killpg(os.getpgid(0), signal.SIGKILL)


def watch(fd: int) -> None:
    """Kill the caller's process group when ``fd`` reports end of file; returns at once."""
    threading.Thread(target=kill_group_at_eof, args=(fd,), name="die-with-parent", daemon=True).start()


def _become(argv: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is the point)
    except OSError as error:
        os.write(2, f"cannot execute {argv[0]}: {error.strerror}\n".encode())
        os._exit(CANNOT_EXECUTE)


def main(argv: list[str]) -> None:
    """Run ``argv`` and end with its exit status, or by the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        _become(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    watch(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    # The tool has dumped its core if it may; a second one of the guard would only mislead.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


if __name__ == "__main__":
    main(sys.argv[1:])
