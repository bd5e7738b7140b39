"""Readings on disk while sampling goes on, so that a killed collector loses at most two seconds.

One JSON line per reading, and now and then a line with the quality block so far. Arrow is not needed to
write it: importing pyarrow takes longer than a tick.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from enginewatch_collector.backends.base import Reading
from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_db.model import Json

FLUSH_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalContent:
    """What a journal holds, complete or not.

    Attributes:
        buffer: The readings.
        quality: The last quality block that was written; ``None`` when there is none.
        devices: The device facts.
    """

    buffer: TelemetryBuffer
    quality: Json | None = None
    devices: tuple[Json, ...] = field(default=())


class Journal:
    """Appends to one file; what a full disk refuses is kept and tried again.

    Args:
        path: The file; an old one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._pending: list[str] = []
        self._unwritten = b""
        self._flushed_ns: int | None = None

    def append(self, reading: Reading) -> None:
        """Note one reading; it is on disk after the next flush."""
        self._pending.append(json.dumps({"row": [reading.source, reading.device, reading.t_ns, reading.values]}))

    def due(self, now_ns: int) -> bool:
        """Return whether the last flush is ``FLUSH_NS`` ago."""
        return self._flushed_ns is not None and now_ns - self._flushed_ns >= FLUSH_NS

    def flush(self, now_ns: int, quality: Json, devices: tuple[Json, ...]) -> None:
        """Hand all that is pending to the kernel, which survives a kill of this process.

        Raises:
            OSError: The disk is full; what could not be written goes out with the next flush.
        """
        self._flushed_ns = now_ns
        lines = [*self._pending, json.dumps({"quality": quality, "devices": devices})]
        self._pending.clear()
        self._unwritten += ("\n".join(lines) + "\n").encode()
        while self._unwritten:
            self._unwritten = self._unwritten[os.write(self._fd, self._unwritten) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def read_journal(path: Path) -> JournalContent:
    """Read a journal; a last line that was cut off is left out.

    Raises:
        OSError: The file cannot be read.
    """
    buffer, quality, devices = TelemetryBuffer(), None, ()
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "row" in entry:
                buffer.add_row(*entry["row"])
            else:
                quality, devices = entry["quality"], tuple(entry["devices"])
    return JournalContent(buffer=buffer, quality=quality, devices=devices)
