"""Stands before ``docker run``: a container is the daemon's child, so nothing that ends our processes would end it.

    python -m enginewatch_harness.targets.container NAME GRACE_S docker run --rm --name NAME ...

Stops the container at SIGTERM, and when standard input ends because the harness is gone, however it ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

POLL_S = 0.05


def _spawn(argv: list[str]) -> int:
    # A group of its own: a signal to ours must not end the client before the container is asked to stop.
    null = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    return os.posix_spawnp(argv[0], argv, os.environ, file_actions=null, setpgroup=0)


def _wait_for_end_of_input(asked: threading.Event) -> None:
    while True:
        try:
            if not os.read(0, 4096):
                break
        except OSError:
            break
    asked.set()


def main(argv: list[str]) -> int:
    """Run the client to its end and return its exit status, or stop the container when asked to."""
    name, grace_s, command = argv[0], argv[1], argv[2:]
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.signal(signal.SIGINT, lambda *_: asked.set())
    threading.Thread(target=_wait_for_end_of_input, args=(asked,), daemon=True).start()
    client = _spawn(command)
    while not asked.wait(POLL_S):
        ended, status = os.waitpid(client, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
    os.waitpid(_spawn([command[0], "stop", "--time", grace_s, name]), 0)
    os.waitpid(client, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
