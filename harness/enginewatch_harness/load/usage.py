"""What a thread of the load generator has used of its core."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadUsage:
    """What this thread has used so far.

    Attributes:
        at_ns: When it was read.
        cpu_ns: CPU time.
        waited_ns: Time that it could have run and had no core; ``None`` where the kernel does not tell.
    """

    at_ns: int
    cpu_ns: int
    waited_ns: int | None


def thread_usage(now_ns: int) -> ThreadUsage:
    """Read what the calling thread has used (proc_pid_schedstat: second field, time on a run queue)."""
    try:
        waited_ns = int(SCHEDSTAT.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        waited_ns = None
    return ThreadUsage(at_ns=now_ns, cpu_ns=time.thread_time_ns(), waited_ns=waited_ns)
