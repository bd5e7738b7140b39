"""Kernel timers on the monotonic clock for an event loop: exact to tens of microseconds.

libuv's own timers (so uvloop's ``call_later``) count whole milliseconds, which would make every send up to a
millisecond late or early. Linux's ``timerfd`` counts nanoseconds on the clock of ``time.monotonic_ns`` and
wakes the loop as a readable descriptor (timerfd_create(2)). Python has it from 3.13 on; ctypes has it always.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


_LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


class Timer:
    """Calls back on the loop at absolute monotonic times; close it when done."""

    __slots__ = ("_call", "_fd", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._fd = _checked(_LIBC.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd_create")
        loop.add_reader(self._fd, self._expired)

    def arm(self, at_ns: int, every_ns: int = 0) -> None:
        """Call back at ``at_ns``, at once where that has passed, and then every ``every_ns`` unless that is 0."""
        at_ns = max(at_ns, 1)  # zero would disarm the timer
        spec = _Itimerspec(_Timespec(*divmod(every_ns, _NS)), _Timespec(*divmod(at_ns, _NS)))
        _checked(_LIBC.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None), "timerfd_settime")

    def _expired(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
            self._call()

    def close(self) -> None:
        """Stop calling back and give the descriptor back; a second call does nothing."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


class LatenessWatch:
    """Wakes up at fixed times and keeps how late the loop let it: the delay that any event would have met.

    Ticks that a blocked loop skipped count too, each with its own lateness. Otherwise one long stall would
    look like one late tick among many good ones.
    """

    __slots__ = ("_due_ns", "_now_ns", "_on_tick", "_period_ns", "_timer", "due_at_ns", "lateness_ns")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int],
        period_ns: int,
        on_tick: Callable[[int], None],
    ) -> None:
        self._now_ns = now_ns
        self._period_ns = period_ns
        self._on_tick = on_tick
        self.due_at_ns: list[int] = []
        self.lateness_ns: list[int] = []
        self._due_ns = now_ns() + period_ns
        self._timer = Timer(loop, self._tick)
        self._timer.arm(self._due_ns, period_ns)

    def _tick(self) -> None:
        now_ns = self._now_ns()
        while self._due_ns <= now_ns:
            self.due_at_ns.append(self._due_ns)
            self.lateness_ns.append(now_ns - self._due_ns)
            self._due_ns += self._period_ns
        self._on_tick(now_ns)

    def close(self) -> None:
        """Stop ticking."""
        self._timer.close()
