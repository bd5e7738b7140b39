"""What the reference server does to a request, what it knows of it, and when it does the next thing."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from enginewatch_db.model import Json
from enginewatch_harness.load.timer import Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What happens to one request.

    Attributes:
        ttft_ms: From the request's last byte to the first token.
        gap_ms: Between tokens.
        pack: Token events in one write.
        role_event: Send a role-only event and an empty one at once, as chat endpoints do.
        tokens_per_event: What the usage block claims, over the events.
        usage: Send a usage event at the end.
        finish: Give a finish reason.
        done: Send the end marker.
        status: HTTP status; another than 200 answers with a JSON error.
        streaming: ``False`` answers whole, as JSON.
        error_after: Send an error event after so many tokens, and end.
        cut_after: Close the connection after so many tokens.
        reset_after: Reset the connection after so many tokens.
        silent: Never answer.
        close_after: Close the connection after a whole answer, without having said so.
        says_close: Say that the connection ends with this answer, and close it then.
        stall_after: Say nothing more after so many tokens, and keep the connection open.
        bad_json_after: After so many tokens, send an event that is not JSON, and end.
        bad_chunk_after: After so many tokens, send a chunk without a size.
        split_bytes: Bytes in one write, so that events, UTF-8 and chunks arrive in pieces; 0 writes events whole.
        text: Text of each token, before its number.
        reasoning: Tokens at the start that are reasoning.
    """

    ttft_ms: float = 1.0
    gap_ms: float = 1.0
    pack: int = 1
    role_event: bool = False
    tokens_per_event: int = 1
    usage: bool = True
    finish: bool = True
    done: bool = True
    status: int = 200
    streaming: bool = True
    error_after: int | None = None
    cut_after: int | None = None
    reset_after: int | None = None
    silent: bool = False
    close_after: bool = False
    says_close: bool = False
    stall_after: int | None = None
    bad_json_after: int | None = None
    bad_chunk_after: int | None = None
    split_bytes: int = 0
    text: str = " t"
    reasoning: int = 0


@dataclass(slots=True, kw_only=True)
class Truth:
    """What the server knows about one request, on the monotonic clock.

    Attributes:
        arrived_ns: When its last byte was read.
        written_ns: When each token event was handed to the socket.
        body: The request.
    """

    arrived_ns: int
    body: Json
    written_ns: list[int] = field(default_factory=list)


class Agenda:
    """Calls back at absolute monotonic times, exact to tens of microseconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._timer = Timer(loop, self._run)

    def at(self, due_ns: int, call: Callable[[], None]) -> None:
        """Call back at ``due_ns``."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, call))
        if self._due[0][1] == self._count:
            self._timer.arm(due_ns)

    def _run(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic_ns():
            heapq.heappop(self._due)[2]()
        if self._due:
            self._timer.arm(self._due[0][0])

    def close(self) -> None:
        """Forget what is left."""
        self._due.clear()
        self._timer.close()
