"""Kernel timers: never early, in order, and a blocked loop is told with every tick that it missed."""

import asyncio
import time
from pathlib import Path

import pytest
import uvloop

from enginewatch_harness.load.timer import LatenessWatch, Timer

MS = 1_000_000


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def test_a_timer_is_never_early():
    async def main():
        loop = asyncio.get_running_loop()
        fired = []
        done = asyncio.Event()
        due = time.monotonic_ns() + 3 * MS

        def call():
            fired.append(time.monotonic_ns())
            done.set()

        timer = Timer(loop, call)
        timer.arm(due)
        await done.wait()
        timer.close()
        timer.close()
        assert len(fired) == 1
        assert fired[0] >= due

    run(main())


def test_a_time_that_has_passed_fires_at_once_and_periods_repeat():
    async def main():
        loop = asyncio.get_running_loop()
        count = 0
        done = asyncio.Event()

        def call():
            nonlocal count
            count += 1
            if count == 3:
                done.set()

        timer = Timer(loop, call)
        timer.arm(0, MS)
        await done.wait()
        timer.close()
        assert count >= 3

    run(main())


def test_a_closed_timer_gives_its_descriptor_back():
    async def main():
        before = open_descriptors()
        timer = Timer(asyncio.get_running_loop(), lambda: None)
        assert open_descriptors() == before + 1
        timer.close()
        assert open_descriptors() == before

    run(main())


def test_a_timer_with_an_impossible_period_is_an_error():
    async def main():
        timer = Timer(asyncio.get_running_loop(), lambda: None)
        try:
            with pytest.raises(OSError, match="timerfd_settime"):
                timer.arm(1, -1_000_000_000)
        finally:
            timer.close()

    run(main())


def test_a_stall_counts_every_tick_that_it_swallowed():
    async def main():
        loop = asyncio.get_running_loop()
        clock = [0]
        ticked = asyncio.Event()
        seen = []

        def on_tick(now_ns):
            seen.append(now_ns)
            ticked.set()

        watch = LatenessWatch(loop, lambda: clock[0], 5 * MS, on_tick)
        clock[0] = 52 * MS  # the loop was blocked for ten periods
        await ticked.wait()
        watch.close()
        assert seen[0] == 52 * MS
        assert watch.due_at_ns[:10] == [5 * MS * k for k in range(1, 11)]
        assert watch.lateness_ns[:10] == [(52 - 5 * k) * MS for k in range(1, 11)]

    run(main())
