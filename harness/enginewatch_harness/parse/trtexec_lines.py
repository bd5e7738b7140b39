"""Lines of a trtexec log: banner, prefix, sections. For TensorRT 8.5 to 11 and TensorRT-RTX. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(r"\[(\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d)\] \[([VIWEF])\] ?(\[TRT\] ?)?(.*)$")
_PYTHON_LINE = re.compile(r"^\[TRT\] \[([VIWEF])\] (.*)$")
_BANNER = re.compile(
    r"&&&& (RUNNING|PASSED|FAILED|WAIVED|TASK_BEGIN|TASK_END|TASK_ABORT) (.{1,80}?)"
    r"(?: \[TensorRT[\w -]{0,8} v(\d{4,9})\])?(?: \[b(\d{1,9})\])? # (.*)$"
)
"""The name is whatever the tool calls itself: that of ``tensorrt_rtx`` is in no public source."""
_SECTION = re.compile(r"^=== (.+?) ===$")
_PAIR = re.compile(r"^([^:]{1,60}?): ?(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line.

    Attributes:
        text: What it says, without its prefix.
        severity: ``V``, ``I``, ``W``, ``E`` or ``F``; ``None`` for a line without a prefix.
        library: Whether TensorRT itself speaks, rather than the tool.
        stamp: Local time as printed; it has no zone.
        whole: Whether its end was printed too: a number in a line that was cut off may be a shorter one.
    """

    text: str
    severity: str | None = None
    library: bool = False
    stamp: str | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    """A line that begins with ``&&&&``.

    Attributes:
        state: ``RUNNING``, ``PASSED``, ``FAILED`` or ``WAIVED``; 11.1 adds ``TASK_BEGIN``, ``TASK_END``,
            ``TASK_ABORT``.
        tool: Name in the banner, for example ``TensorRT.trtexec``; other tools of the family have others.
        version: ``8.6.0``; ``None`` in TensorRT 7.
        build: Build number; printed since 10.8.
        command: The command line, joined with blanks and not quoted.
    """

    state: str
    tool: str
    version: str | None
    build: int | None
    command: str


def decode(raw: bytes) -> str:
    """Return a tool's output as text; it need not be UTF-8, and line ends may be those of Windows."""
    return raw.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def split_lines(text: str) -> list[LogLine]:
    """Return all lines with their prefixes read; banners are left out.

    What follows the last line end is a line that was cut off: every line of the tool ends with one.
    """
    *ended, rest = text.split("\n")
    lines = [(line, True) for line in ended] + [(rest, False)]
    return [_read_line(line, whole) for line, whole in lines if line.strip() and not _BANNER.search(line)]


def _read_line(line: str, whole: bool) -> LogLine:
    if match := _LINE.search(line):  # searched, not anchored: wrappers put prefixes of their own in front
        stamp, severity, library, text = match.groups()
        return LogLine(text=text.rstrip(), severity=severity, library=library is not None, stamp=stamp, whole=whole)
    if match := _PYTHON_LINE.match(line):
        return LogLine(text=match[2].rstrip(), severity=match[1], library=True, whole=whole)
    return LogLine(text=line.rstrip(), whole=whole)


def find_banners(text: str) -> list[Banner]:
    """Return the banners in their order; they need not begin the file or even a line."""
    return [
        Banner(
            state=match[1],
            tool=match[2],
            version=decode_version(match[3]) if match[3] else None,
            build=int(match[4]) if match[4] else None,
            command=match[5].strip(),
        )
        for match in (_BANNER.search(line) for line in text.split("\n"))
        if match
    ]


def decode_version(digits: str) -> str:
    """Return a banner's number as a version: 8600 → 8.6.0, 101601 → 10.16.1.

    TensorRT up to 9 counts major * 1000 + minor * 100 + patch, 10 and later major * 10000 + minor * 100 + patch
    (``NV_TENSORRT_VERSION`` in NvInferVersion.h of each).
    """
    number = int(digits)
    unit = 1000 if number < 10_000 else 10_000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def read_sections(lines: Iterable[LogLine]) -> dict[str, dict[str, str]]:
    """Return section → key → value of the informative lines; the first value of a key stands.

    Sections are headed ``=== Inference Options ===`` and so on; what stands before the first, as in a log whose lines
    were mixed up, is under the empty name. Lines of the library never belong to one.
    """
    current: dict[str, str] = {}
    sections = {"": current}
    for line in lines:
        if line.library or not line.whole or line.severity not in ("I", None):
            continue
        if match := _SECTION.match(line.text.strip()):
            current = sections.setdefault(match[1].strip(), {})
        elif match := _PAIR.match(line.text):
            current.setdefault(match[1].strip(), match[2].strip())
    return sections
