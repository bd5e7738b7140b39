"""What the mock server knows and what a client saw: reading both, joining them, and the errors of the client. Pure.

All times are CLOCK_MONOTONIC nanoseconds of one machine, so the two sides compare without a clock between them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

_TRUTH = struct.Struct("=QIIqqqII64s")
"""``struct record`` of mock_server.c; as many times of 8 bytes follow as tokens were written."""
_SEEN = struct.Struct("=QqQ")
"""``struct record`` of epoll_client.c, and of every client of ours that writes such a file."""

MS = 1e6
QUANTILES = (0.5, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One request as the server had it.

    Attributes:
        serial: Its place in the order in which requests were read.
        connection: Number of its connection, in the order of accepting.
        order: Its place among the requests of that connection.
        request_id: The header ``X-Request-Id``; empty where there was none.
        arrived_ns: When the kernel had its last byte.
        read_ns: When the server read that byte.
        ended_ns: When its answer had been written, or its connection was lost; 0 while it runs.
        wanted: Tokens asked for.
        written_ns: When each token was handed to the socket.
    """

    serial: int
    connection: int
    order: int
    request_id: str
    arrived_ns: int
    read_ns: int
    ended_ns: int
    wanted: int
    written_ns: Times

    @property
    def ttft_ns(self) -> int:
        """From the arrival of its last byte to the first token."""
        return int(self.written_ns[0]) - self.arrived_ns

    def late_ns(self, ttft_ns: int, gap_ns: int) -> Times:
        """How late each token was by the schedule."""
        due = self.arrived_ns + ttft_ns + gap_ns * np.arange(self.written_ns.size)
        return self.written_ns - due


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as a client reported it; ``None`` for what its report leaves out.

    Attributes:
        key: What joins it to the server's record: its ``X-Request-Id`` or serial.
        ttft_ns: Its TTFT.
        gaps_ns: Every gap between its content events.
        start_ns: Its start on any one clock that all requests of the client share.
        end_ns: Its last content event on that clock.
    """

    key: str | int | None
    ttft_ns: int | None
    gaps_ns: Times | None
    start_ns: int | None = None
    end_ns: int | None = None


def read_truth(data: bytes) -> list[Truth]:
    """Read the server's file, in the order of its serials."""
    found, at = [], 0
    while at < len(data):
        serial, connection, order, arrived, read, ended, wanted, written, request_id = _TRUTH.unpack_from(data, at)
        at += _TRUTH.size
        times = np.frombuffer(data, dtype="=i8", count=written, offset=at)
        at += times.nbytes
        found.append(
            Truth(
                serial=serial,
                connection=connection,
                order=order,
                request_id=request_id.rstrip(b"\0").decode("latin-1"),
                arrived_ns=arrived,
                read_ns=read,
                ended_ns=ended,
                wanted=wanted,
                written_ns=times,
            )
        )
    return found


def read_seen(data: bytes) -> list[Seen]:
    """Read the file of the C client or the asyncio client; the key is the ``X-Request-Id`` that it sent."""
    found, at = [], 0
    while at < len(data):
        number, sent, count = _SEEN.unpack_from(data, at)
        at += _SEEN.size
        times = np.frombuffer(data, dtype="=i8", count=count, offset=at)
        at += times.nbytes
        found.append(seen_from_times(str(number), sent, times))
    return found


def seen_from_times(key: str | int | None, start_ns: int, times: Times) -> Seen:
    """Return what a client saw that keeps the time of each event."""
    return Seen(
        key=key, ttft_ns=int(times[0]) - start_ns, gaps_ns=np.diff(times), start_ns=start_ns, end_ns=int(times[-1])
    )


def join(seen: list[Seen], truths: list[Truth]) -> list[tuple[Seen, Truth]]:
    """Pair each request of the client with the server's record of it, by request id or serial.

    Raises:
        LookupError: A request that the server never had, or two with one key.
    """
    known: dict[str | int, Truth] = {truth.serial: truth for truth in truths}
    known |= {truth.request_id: truth for truth in truths if truth.request_id}
    pairs = []
    for item in seen:
        if item.key is None:
            continue
        if item.key not in known:
            raise LookupError(f"the client reports request {item.key!r}, which the server never had or had once only")
        pairs.append((item, known.pop(item.key)))
    return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How far a client's numbers are from the truth, in ms; ``None`` for what it does not report.

    Attributes:
        ttft_ms: Quantile → measured minus true quantile of TTFT.
        itl_ms: The same of the pooled gaps.
        paired_ttft_ms: Quantile → quantile of the per-request errors; ``None`` where requests cannot be told apart.
    """

    ttft_ms: dict[float, float] | None
    itl_ms: dict[float, float] | None
    paired_ttft_ms: dict[float, float] | None


def _difference(measured: Times, true: Times) -> dict[float, float] | None:
    if not measured.size or not true.size:
        return None
    return {q: float(np.quantile(measured, q) - np.quantile(true, q)) / MS for q in QUANTILES}


def errors(seen: list[Seen], truths: list[Truth]) -> Errors:
    """Compare a client's report with the truth of the same requests.

    Args:
        seen: What the client reported.
        truths: The server's records of these requests; others (a client's warm-up) must be left out.
    """
    ttft = np.array([item.ttft_ns for item in seen if item.ttft_ns is not None], dtype=np.int64)
    gaps = [item.gaps_ns for item in seen if item.gaps_ns is not None]
    paired = np.array([s.ttft_ns - t.ttft_ns for s, t in join(seen, truths) if s.ttft_ns is not None], dtype=np.int64)
    return Errors(
        ttft_ms=_difference(ttft, np.array([truth.ttft_ns for truth in truths], dtype=np.int64)),
        itl_ms=_difference(np.concatenate(gaps), np.concatenate([np.diff(t.written_ns) for t in truths]))
        if gaps
        else None,
        paired_ttft_ms={q: float(np.quantile(paired, q)) / MS for q in QUANTILES} if paired.size else None,
    )
