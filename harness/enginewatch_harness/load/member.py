"""A client process among several: ``python -m enginewatch_harness.load.member FOLDER NUMBER ORDERS EVENTS``.

It reads its order and then the start instant from one pipe, writes what happens as lines of JSON to another that
all members share (a line is shorter than PIPE_BUF, so lines never mix), and leaves its requests in ``FOLDER``.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from enginewatch_db.errors import EnginewatchError
from enginewatch_db.model import Phase
from enginewatch_harness.load.driver import Driver
from enginewatch_harness.load.part import run_part
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import Prepared, SyntheticWorkload
from enginewatch_harness.load.target import Target
from enginewatch_harness.load.tickets import SharedTickets
from enginewatch_harness.process import die_with_parent

INSTANT = struct.Struct("<q")
_LINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a member is to do.

    Attributes:
        target: Where to.
        share: The spec of this member's share: how much of the load at a time.
        warmup_s: Seconds before the measuring phase.
        duration_s: Seconds of the measuring phase.
        numbers_fd: Pipe of request numbers.
        budget_fd: Event counter of measured requests; ``None`` where a duration ends the load.
        cores: Cores to stay on; empty: any.
    """

    target: Target
    share: LoadSpec
    warmup_s: float
    duration_s: float
    numbers_fd: int
    budget_fd: int | None
    cores: tuple[int, ...] = ()


ORDER = TypeAdapter(Order)


def files(folder: Path, number: int) -> tuple[Path, Path]:
    """Return where member ``number`` leaves its account and its requests."""
    return folder / f"{number}.json", folder / f"{number}.requests"


def workload_file(folder: Path) -> Path:
    """Return where all members find the workload, as the parent prepared it."""
    return folder / "workload.pickle"


def main(argv: list[str]) -> int:
    """Take part in one load; the exit status is that of the error tree."""
    die_with_parent()
    folder, number, orders_fd, events_fd = Path(argv[0]), int(argv[1]), int(argv[2]), int(argv[3])
    size = INSTANT.unpack(os.read(orders_fd, INSTANT.size))[0]
    order = ORDER.validate_json(_read(orders_fd, size))
    # Our own parent wrote it a moment ago, into a folder that only this user can enter.
    prepared: Prepared = pickle.loads(workload_file(folder).read_bytes())  # noqa: S301
    if order.cores:
        os.sched_setaffinity(0, order.cores)

    def tell(**event: Any) -> None:  # noqa: ANN401 (JSON values)
        os.write(events_fd, json.dumps({"process": number, **event}).encode() + b"\n")

    async def when() -> int:
        tell(ready=True)
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        loop.add_reader(orders_fd, told.set)
        await told.wait()
        loop.remove_reader(orders_fd)
        instant = _read(orders_fd, INSTANT.size)
        started_ns: int = INSTANT.unpack(instant)[0]
        return started_ns

    def on_phase(phase: Phase) -> None:
        tell(phase=phase.value)

    def on_progress(count: int, median_ms: float | None) -> None:
        tell(completed=count, median_ms=median_ms)

    try:
        driver = Driver(
            order.target,
            order.share,
            SyntheticWorkload(prepared),
            SharedTickets(order.numbers_fd, order.budget_fd),
            warmup_s=order.warmup_s,
            duration_s=order.duration_s,
            on_phase=on_phase,
            on_progress=on_progress,
        )
        account, columns = run_part(driver, number, when)
    except EnginewatchError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    about, requests = files(folder, number)
    requests.write_bytes(columns.pack())
    about.write_text(json.dumps(account.to_json()), encoding="utf-8")
    return 0


def _read(fd: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = os.read(fd, min(size - len(found), _LINE_BYTES))
        if not piece:
            raise EOFError("the load generator's parent closed its pipe")
        found += piece
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
