"""The machine: compiling the C parts, the mock server and the client each on a core of their own, what they used."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load.truth import Truth, read_truth
from enginewatch_harness import process

HERE = Path(__file__).parent
PROGRAMS = ("mock_server", "epoll_client", "launch")
SAMPLE_S = 0.1
LOOKS_PER_TREE = 5
"""Samples of CPU between two looks for new processes of the client, which cost more."""
SPIN = ("--spin-us", "200")
"""The server, on a core of its own, waits the last stretch before a token awake."""


class CannotRunError(Exception):
    """A client or the whole benchmark cannot run here; the message says why."""


def compiler() -> str | None:
    """Return the C compiler of this machine, if any."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """Compile the C programs into a folder and return it.

    Raises:
        CannotRunError: No compiler, or it failed.
    """
    found = compiler()
    if found is None:
        raise CannotRunError("no C compiler (cc, gcc or clang) on PATH: the mock server cannot be built")
    for program in PROGRAMS:
        command = [found, "-O2", "-Wall", "-o", str(folder / program), str(HERE / f"{program}.c")]
        result = process.run_tool(command, log_prefix=folder / f"cc-{program}")
        if result.returncode:
            raise CannotRunError(f"{' '.join(command)} failed: {result.stderr.decode(errors='replace')[-500:]}")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Where things run; ``None`` leaves it to the system."""

    server: int | None
    client: int | None

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Take the first two cores that this process may use.

        Raises:
            CannotRunError: There is one only: server and client would measure each other.
        """
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise CannotRunError("one core only: the server and a client need one each")
        return cls(server=cores[0], client=cores[1])


def _on(core: int | None) -> contextlib.AbstractContextManager[None]:
    return process.on_cores(None if core is None else {core})


@dataclass(slots=True, kw_only=True)
class Server:
    """A running mock server; ``truths`` and ``lateness`` are there after its end."""

    url: str
    child: process.Child
    truths: list[Truth] = field(default_factory=list)
    lateness: dict[str, float] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def serving(programs: Path, folder: Path, *, core: int | None, options: Sequence[str] = ()) -> Iterator[Server]:
    """Run the mock server for a while, with further options; what it knows is in it afterwards."""
    out, truth = folder / "server.out", folder / "truth.bin"
    argv = [str(programs / "mock_server"), "--serial-as-prompt-tokens", *options]
    with _on(core):
        child = process.start([*argv, "--truth", str(truth)], stdout=out, stderr=folder / "server.err")
    try:
        while not out.read_text().endswith("\n"):
            if child.poll() is not None:
                raise CannotRunError(f"the mock server ended: {process.tail(folder / 'server.err')}")
            time.sleep(0.005)
        server = Server(url=out.read_text().strip(), child=child)
        yield server
    finally:
        process.stop_group(child, 20)
    server.truths = read_truth(truth.read_bytes())
    server.lateness = json.loads(out.read_text().splitlines()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a client and its descendants used.

    Attributes:
        began_ns: When it was started, on the monotonic clock.
        cpu_s: User and system time of all its processes.
        peak_mb: The largest sum of resident memory of its processes (pages that they share count once each), or
            the peak of its only process.
        cpu_until: Samples of (monotonic ns, CPU seconds until then).
        status: Its exit status.
    """

    began_ns: int
    cpu_s: float
    peak_mb: float
    cpu_until: tuple[tuple[int, float], ...]
    status: int

    def cpu_at(self, at_ns: int) -> float:
        """Return the CPU seconds used until then, between the samples by a straight line."""
        points = [(self.began_ns, 0.0), *self.cpu_until]
        for (left_ns, left), (right_ns, right) in itertools.pairwise(points):
            if left_ns <= at_ns <= right_ns:
                return left + (right - left) * (at_ns - left_ns) / max(1, right_ns - left_ns)
        return self.cpu_s if at_ns > points[-1][0] else 0.0


def _descendants(pid: int) -> list[int]:
    found, left = [], [pid]
    while left:
        parent = left.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
        found.append(parent)
    return found[1:]


def _cpu_ns(pid: int) -> int | None:
    # The clock of another process's CPU time: clock_getcpuclockid(3), which Python does not have.
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def run_client(
    programs: Path,
    argv: list[str],
    folder: Path,
    *,
    core: int | None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> Used:
    """Run a client to its end on one core, with its output in ``client.out`` and ``client.err``.

    Raises:
        CannotRunError: It took longer than its limit.
    """
    told = folder / "used"
    command = [str(programs / "launch"), str(told), *argv]
    with _on(core):
        child = process.start(command, stdout=folder / "client.out", stderr=folder / "client.err", env=env, cwd=folder)
    try:
        samples, peak_mb = _watch(child, timeout_s)
    finally:
        process.stop_group(child, 5)
    began, cpu_s, peak_kib, status = told.read_text().split()
    return Used(
        began_ns=int(began),
        cpu_s=float(cpu_s),
        peak_mb=max(peak_mb, int(peak_kib) * 1024 / 1e6),
        cpu_until=tuple(samples),
        status=int(status),
    )


def _watch(child: process.Child, timeout_s: float) -> tuple[list[tuple[int, float]], float]:
    samples: list[tuple[int, float]] = []
    cpu_ns: dict[int, int] = {}
    tree: list[int] = []
    peak_mb, until = 0.0, time.monotonic() + timeout_s
    ended = os.pidfd_open(child.pid)
    try:
        for look in range(1 << 30):
            if select.select([ended], [], [], SAMPLE_S)[0]:
                return samples, peak_mb
            if time.monotonic() > until:
                raise CannotRunError(f"it had not ended after {timeout_s:g} s")
            if look % LOOKS_PER_TREE == 0 or not tree:
                tree = _descendants(child.pid)
                peak_mb = max(peak_mb, sum(map(_resident_mb, tree)))
            cpu_ns |= {pid: used for pid in tree if (used := _cpu_ns(pid)) is not None}
            samples.append((time.monotonic_ns(), sum(cpu_ns.values()) / 1e9))
        raise AssertionError("unreachable")
    finally:
        os.close(ended)
