"""Who sends which request: numbers and, with a fixed count, the right to start one more; local or shared.

Client processes share one queue: numbers come through a pipe, whose reads of four bytes are whole and exclusive
(pipe(7), PIPE_BUF), and the measured requests that are left are an event counter (eventfd(2), EFD_SEMAPHORE).
So a process that is slow leaves its work to the others, and no request is sent twice.
"""

from __future__ import annotations

import os
import struct
from typing import Protocol

NUMBER = struct.Struct("<I")
EMPTY = -1
"""There is no number just now; there will be in a moment."""


class Tickets(Protocol):
    """Numbers of requests, and permission to measure them."""

    def take(self) -> int:
        """Return the next number, or ``EMPTY``."""

    def may_measure(self) -> bool:
        """Return whether one more measured request may start; ``True`` uses one up."""


class LocalTickets:
    """All tickets of a load with one process."""

    __slots__ = ("_left", "_next")

    def __init__(self, requests: int | None) -> None:
        self._next = 0
        self._left = requests

    def take(self) -> int:
        """Return the next number."""
        number, self._next = self._next, self._next + 1
        return number

    def may_measure(self) -> bool:
        """Return whether one more measured request may start; ``True`` uses one up."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


class SharedTickets:
    """The tickets that several processes share.

    Args:
        numbers_fd: Reading end of the pipe, non-blocking.
        budget_fd: Event counter of measured requests, non-blocking; ``None`` where a duration ends the load.
    """

    __slots__ = ("_budget_fd", "_numbers_fd")

    def __init__(self, numbers_fd: int, budget_fd: int | None) -> None:
        self._numbers_fd, self._budget_fd = numbers_fd, budget_fd

    def take(self) -> int:
        """Return the next number, or ``EMPTY``."""
        try:
            found = os.read(self._numbers_fd, NUMBER.size)
        except BlockingIOError:
            return EMPTY
        return NUMBER.unpack(found)[0] if len(found) == NUMBER.size else EMPTY

    def may_measure(self) -> bool:
        """Return whether one more measured request may start; ``True`` uses one up."""
        if self._budget_fd is None:
            return True
        try:
            os.eventfd_read(self._budget_fd)
        except BlockingIOError:
            return False
        return True
