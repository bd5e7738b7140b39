"""One client process's part of a load: builds its requests, runs its driver, says what it saw."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from enginewatch_harness.load.driver import NEVER_NS, Driver
from enginewatch_harness.load.record import Columns
from enginewatch_harness.load.usage import ThreadUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one process says about itself. All times are monotonic nanoseconds.

    Attributes:
        process: Its number.
        begin_ns: When its measuring phase began.
        end_ns: When it ended; ``None`` where the load ended before.
        usage: Phase → what its thread had used when the phase began.
        tick_due_ns: When the lateness watch was due.
        tick_late_ns: How late the event loop let it.
        resent: Requests sent again because the server had closed an idle connection.
        server_died: Why the server counts as dead; ``None`` while it lives.
        gave_up: Why the load was broken off.
    """

    process: int
    begin_ns: int
    end_ns: int | None
    usage: dict[str, ThreadUsage]
    tick_due_ns: list[int]
    tick_late_ns: list[int]
    resent: int = 0
    server_died: str | None = None
    gave_up: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, found: dict[str, Any]) -> Account:
        """Return what ``to_json`` was given."""
        return cls(**{**found, "usage": {phase: ThreadUsage(**used) for phase, used in found["usage"].items()}})


Part = tuple[Account, Columns]
"""What a process says about itself, and its requests."""


def run_part(driver: Driver, process: int, when: Callable[[], Awaitable[int]] | None = None) -> Part:
    """Run one process's part on an event loop of its own, on the calling thread.

    The cyclic garbage collector is off meanwhile: its pauses would become token gaps.

    Args:
        driver: Not yet run.
        process: Number of this process.
        when: Awaited once all is prepared; gives the instant at which sending starts.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(driver.run(when))
    finally:
        if collecting:
            gc.enable()
    account = Account(
        process=process,
        begin_ns=driver.begin_ns,
        end_ns=None if driver.end_ns == NEVER_NS else driver.end_ns,
        usage={phase.value: used for phase, used in driver.usage.items()},
        tick_due_ns=driver.watch.due_at_ns,
        tick_late_ns=driver.watch.lateness_ns,
        resent=driver.resent,
        server_died=driver.server_died,
        gave_up=driver.gave_up,
    )
    return account, Columns.of(driver.exchanges, process)
