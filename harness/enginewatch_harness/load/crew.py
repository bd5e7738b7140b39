"""Several client processes, one per core, that share one start instant and one queue of requests."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import selectors
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from enginewatch_db.errors import BackendError
from enginewatch_db.model import Phase
from enginewatch_harness import process
from enginewatch_harness.load.member import INSTANT, ORDER, Order, files, workload_file
from enginewatch_harness.load.part import Account, Part
from enginewatch_harness.load.record import Columns
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import Prepared
from enginewatch_harness.load.target import Target
from enginewatch_harness.load.tickets import NUMBER

_LEAD_NS = 50_000_000
"""From telling the start instant to the instant itself: long enough for every member to arm its timer."""

_PIPE_BYTES = 1 << 20
_POLL_S = 0.1
_PHASES = tuple(Phase)


def share(spec: LoadSpec, number: int, processes: int) -> LoadSpec:
    """Return the part of the streams, or of the ceiling of connections, that falls to one process. Pure."""
    each, more = divmod(spec.concurrency, processes)
    return replace(spec, concurrency=max(1, each + (number < more)), processes=1)


@dataclass(slots=True, kw_only=True)
class _Member:
    child: process.Child
    orders_fd: int
    ready: bool = False
    phase: Phase = Phase.PREFLIGHT
    completed: int = 0
    median_ms: float | None = None


@dataclass(slots=True, kw_only=True)
class _Pipes:
    numbers: tuple[int, int]
    events: tuple[int, int]
    budget_fd: int | None
    next_number: int = 0
    partial: bytes = b""
    open_fds: list[int] = field(default_factory=list)


def run_crew(
    target: Target,
    spec: LoadSpec,
    *,
    processes: int,
    prepared: Prepared,
    warmup_s: float,
    duration_s: float,
    on_phase: Callable[[Phase], None],
    on_progress: Callable[[int, float | None], None],
) -> list[Part]:
    """Run a load with several processes and return the part of each.

    Raises:
        BackendError: A process ended with an error; what its log says is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="enginewatch-load-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        workload_file(folder).write_bytes(pickle.dumps(prepared))
        pipes = _open_pipes(spec, stack)
        members = []
        cores = sorted(os.sched_getaffinity(0))
        for number in range(processes):
            own = (cores[number % len(cores)],) if len(cores) >= processes else ()
            order = Order(
                target=target,
                share=share(spec, number, processes),
                warmup_s=warmup_s,
                duration_s=duration_s,
                numbers_fd=pipes.numbers[0],
                budget_fd=pipes.budget_fd,
                cores=own,
            )
            members.append(stack.enter_context(_started(folder, number, order, pipes)))
        _attend(members, pipes, folder, on_phase, on_progress)
        return [_part(folder, number) for number in range(processes)]


def _open_pipes(spec: LoadSpec, stack: contextlib.ExitStack) -> _Pipes:
    budget_fd = None
    if spec.requests is not None:
        budget_fd = os.eventfd(spec.requests, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        stack.callback(os.close, budget_fd)
    numbers, events = os.pipe(), os.pipe()
    for fd in (*numbers, *events):
        stack.callback(os.close, fd)
    for fd in (*numbers, events[0]):
        os.set_blocking(fd, False)
    with contextlib.suppress(OSError):  # a user may be over the limit of pipe memory; the default size will do
        fcntl.fcntl(numbers[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    pipes = _Pipes(numbers=numbers, events=events, budget_fd=budget_fd)
    _fill(pipes)
    return pipes


def _fill(pipes: _Pipes) -> None:
    """Write numbers until the pipe is full."""
    with contextlib.suppress(BlockingIOError):
        while True:
            block = b"".join(NUMBER.pack(pipes.next_number + index) for index in range(1024))
            pipes.next_number += os.write(pipes.numbers[1], block) // NUMBER.size


@contextlib.contextmanager
def _started(folder: Path, number: int, order: Order, pipes: _Pipes) -> Iterator[_Member]:
    reading, writing = os.pipe()
    fds = [reading, pipes.events[1], pipes.numbers[0], *([] if pipes.budget_fd is None else [pipes.budget_fd])]
    argv = [sys.executable, "-m", "enginewatch_harness.load.member", str(folder), str(number)]
    try:
        child = process.start(
            [*argv, str(reading), str(pipes.events[1])],
            stdout=folder / f"{number}.stdout",
            stderr=folder / f"{number}.stderr",
            pass_fds=fds,
        )
        os.close(reading)
        try:
            encoded = ORDER.dump_json(order)
            with contextlib.suppress(BrokenPipeError):  # it has died: its exit status says so
                os.write(writing, INSTANT.pack(len(encoded)) + encoded)
            yield _Member(child=child, orders_fd=writing)
        finally:
            process.stop_group(child, 1.0)
    finally:
        os.close(writing)


def _attend(
    members: list[_Member],
    pipes: _Pipes,
    folder: Path,
    on_phase: Callable[[Phase], None],
    on_progress: Callable[[int, float | None], None],
) -> None:
    """Give the start, keep the queue filled, pass on what members tell, until all have ended well."""
    phase, told = Phase.PREFLIGHT, False
    with selectors.DefaultSelector() as selector:
        selector.register(pipes.events[0], selectors.EVENT_READ)
        selector.register(pipes.numbers[1], selectors.EVENT_WRITE)
        while any(member.child.poll() is None for member in members):
            for key, _ in selector.select(_POLL_S):
                if key.fd == pipes.numbers[1]:
                    _fill(pipes)
                else:
                    _read_events(members, pipes)
            _refuse_failed(members, folder)
            if not told and all(member.ready for member in members):
                told = True
                instant = INSTANT.pack(time.monotonic_ns() + _LEAD_NS)
                for member in members:
                    with contextlib.suppress(BrokenPipeError):
                        os.write(member.orders_fd, instant)
            reached = min((member.phase for member in members), key=_PHASES.index)
            while _PHASES.index(phase) < _PHASES.index(reached):
                phase = _PHASES[_PHASES.index(phase) + 1]
                if phase in (Phase.WARMUP, Phase.MEASURE, Phase.DRAIN):
                    on_phase(phase)
            if phase is Phase.MEASURE:
                medians = sorted(member.median_ms for member in members if member.median_ms is not None)
                on_progress(
                    sum(member.completed for member in members), medians[len(medians) // 2] if medians else None
                )
    _refuse_failed(members, folder)


def _read_events(members: list[_Member], pipes: _Pipes) -> None:
    with contextlib.suppress(BlockingIOError):
        pipes.partial += os.read(pipes.events[0], _PIPE_BYTES)
    *lines, pipes.partial = pipes.partial.split(b"\n")
    for line in lines:
        event = json.loads(line)
        member = members[event["process"]]
        if "ready" in event:
            member.ready = True
        elif "phase" in event:
            member.phase = Phase(event["phase"])
        else:
            member.completed, member.median_ms = event["completed"], event["median_ms"]


def _refuse_failed(members: list[_Member], folder: Path) -> None:
    for number, member in enumerate(members):
        if member.child.poll():
            raise BackendError(
                f"client process {number} of {len(members)} ended with status {member.child.returncode}: "
                f"{process.tail(folder / f'{number}.stderr', 600) or '(it said nothing)'}",
                code="client_failed",
                remedy="try it with one process; if that works, please report it",
            )


def _part(folder: Path, number: int) -> Part:
    about, requests = files(folder, number)
    account = Account.of(json.loads(about.read_text(encoding="utf-8")))
    return account, Columns.unpack(requests.read_bytes())
