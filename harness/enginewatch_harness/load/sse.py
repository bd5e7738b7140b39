"""Server-sent events from raw bytes. Pure.

Event stream format: WHATWG HTML, section 9.2 "Server-sent events" (fields, comments, three line endings, and
data lines that are joined by a line feed).
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SseSplitter:
    """Splits a stream that arrives in arbitrary pieces into the data of its events."""

    __slots__ = ("_begun", "_skip_lf", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._skip_lf = False
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next bytes; return the data of each event that they complete, in order."""
        if self._skip_lf and piece:
            piece = piece[piece.startswith(b"\n") :]
            self._skip_lf = False
        if b"\r" in piece:
            # A carriage return that ends the piece is a line ending already; its line feed may come next.
            self._skip_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        stream = self._tail + piece if self._tail else piece
        if not self._begun:
            if len(stream) < len(_BOM) and _BOM.startswith(stream):
                self._tail = stream
                return []
            self._begun = True
            stream = stream.removeprefix(_BOM)
        if b"\n\n" not in stream:
            self._tail = stream
            return []
        *blocks, self._tail = stream.split(b"\n\n")
        # A block that begins with an empty line ended an event of nothing; the slow path drops the line.
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif (data := _data_of(block)) is not None:
                events.append(data)
        return events

    @property
    def between(self) -> bool:
        """Whether the bytes so far end with a whole event."""
        return self._begun and not self._tail and not self._skip_lf

    def flush(self) -> list[bytes]:
        """Return the event that the end of the stream left without its empty line, if any.

        The standard drops it; some servers end with ``data: [DONE]`` and a single line feed.
        """
        data = _data_of(self._tail)
        self._tail = b""
        return [] if data is None else [data]


def _data_of(block: bytes) -> bytes | None:
    """Return the joined data lines of one event, or ``None`` when it has none (a comment, another field)."""
    lines = []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(lines) if lines else None
