"""Parse what ``nsys stats --format csv`` writes, to a file or between its other lines on the console. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from enginewatch_harness.nsys.command import current_name

_TITLE = re.compile(r"^\s*\*\* (?P<title>.+?)(?: \((?P<report>[a-z0-9_]+)(?::[^)]*)?\))?:\s*$")
_PROCESSING = re.compile(
    r"^Processing \[[^\]]*\] with \[(?:[^\]]*/)?(?P<report>[\w-]+?)(?:\.py)?\](?: to \[[^\]]*\])?\.\.\.\s*(?P<rest>.*)$"
)
_NOISE = re.compile(r"^(Generating |Exporting |Using |WARNING|Warning|NOTICE|\s*\[?\d*%?\]?$)")
_SKIPPED = re.compile(r"^(SKIPPED|ERROR): (?P<why>.+)$")
_UNIT = re.compile(r"^(?P<name>.*?)\s*\((?P<unit>[^)]*)\)$")

_TIME_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "usec": 1e3, "ms": 1e6, "msec": 1e6, "s": 1e9, "sec": 1e9, "nsec": 1.0}
_SIZE_BYTES = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}

_OLD_OPERATIONS = {
    "HtoD": "Host-to-Device",
    "DtoH": "Device-to-Host",
    "DtoD": "Device-to-Device",
    "HtoH": "Host-to-Host",
    "PtoP": "Peer-to-Peer",
}

Value = float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReport:
    """One report.

    Attributes:
        name: Its name where the output tells, as versions since 2023 have it: ``cuda_gpu_kern_sum``.
        title: Its heading where the output tells.
        rows: Column → value; times in ns under ``<column>_ns``, sizes in bytes under ``<column>_bytes``, shares
            under ``<column>_pct``; all in lower case, blanks as underscores.
        skipped: Why there is none.
    """

    name: str | None = None
    title: str | None = None
    rows: tuple[Mapping[str, Value], ...] = ()
    skipped: str | None = None


@dataclass(slots=True, kw_only=True)
class _Part:
    name: str | None = None
    title: str | None = None
    lines: list[str] = field(default_factory=list)
    skipped: str | None = None

    def report(self) -> StatsReport:
        return StatsReport(name=self.name, title=self.title, rows=_rows(self.lines), skipped=self.skipped)


def parse_stats(text: str, name: str | None = None) -> tuple[StatsReport, ...]:
    """Return the reports in a CSV file, or in the console output of several.

    Args:
        text: Content of the file, or the output.
        name: Name of the report where it is known from the file's name.
    """
    parts = [_Part(name=name)]
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        begun = _PROCESSING.match(line)
        if begun:
            parts.append(_Part(name=current_name(begun["report"])))
            line = begun["rest"].removesuffix("PROCESSED")
        title, skipped = _TITLE.match(line), _SKIPPED.match(line.strip())
        if title:
            parts.append(_Part(name=title["report"] or parts[-1].name, title=title["title"]))
        elif skipped:
            parts[-1].skipped = skipped["why"]
        elif line.strip() and not _NOISE.match(line):
            parts[-1].lines.append(line)
    return tuple(part.report() for part in parts if part.lines or part.skipped)


def _rows(lines: list[str]) -> tuple[Mapping[str, Value], ...]:
    try:
        parsed = list(csv.reader(lines))
    except csv.Error:  # a cell beyond the module's limit: no line of a report
        return ()
    # The header is the first line with as many cells as most others have.
    header = next((index for index, cells in enumerate(parsed) if len(cells) > 1), None)
    if header is None:
        return ()
    columns = [column_of(cell) for cell in parsed[header]]
    return tuple(
        {name: _value(cell, factor) for (name, factor), cell in zip(columns, cells, strict=True)}
        for cells in parsed[header + 1 :]
        if len(cells) == len(columns)
    )


def column_of(header: str) -> tuple[str, float | None]:
    """Return (key, factor to its unit) of a column; the factor is ``None`` for text and plain numbers.

    >>> column_of("Total Time (us)")
    ('total_time_ns', 1000.0)
    """
    found = _UNIT.match(header.strip())
    name, unit = (found["name"], found["unit"]) if found else (header.strip(), "")
    key = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    if unit in _TIME_NS:
        return f"{key}_ns", _TIME_NS[unit]
    if unit in _SIZE_BYTES:
        return f"{key}_bytes", _SIZE_BYTES[unit]
    return (f"{key}_pct", 1.0) if unit == "%" else (key, None)


def _value(cell: str, factor: float | None) -> Value:
    text = cell.strip()
    number = number_of(text)
    if number is not None:
        return number * (factor or 1.0)
    return operation_of(text) if text else None


def number_of(text: str) -> float | None:
    """Return a number, thousands separators and all; ``None`` for anything else.

    >>> number_of("1,234,567.5")
    1234567.5
    """
    plain = text.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else text
    return float(plain) if re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", plain) else None


def operation_of(text: str) -> str:
    """Return the name of a memory operation as versions since 2023 write it; other texts as they are.

    >>> operation_of("[CUDA memcpy HtoD]")
    '[CUDA memcpy Host-to-Device]'
    """
    found = re.fullmatch(r"\[CUDA (?P<unified>Unified Memory )?memcpy (?P<way>\w+)\]", text)
    if not found or found["way"] not in _OLD_OPERATIONS:
        return text
    return f"[CUDA {found['unified'] or ''}memcpy {_OLD_OPERATIONS[found['way']]}]"
