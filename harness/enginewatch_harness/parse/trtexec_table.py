"""The layer table that ``--dumpProfile`` prints, for when the JSON file is absent or broken. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from enginewatch_harness.parse.trtexec_json import LayerTime, Profile
from enginewatch_harness.parse.trtexec_lines import LogLine

_HEAD = re.compile(r"^=== Profile \((\d+) iterations ?\) ===$")
_COLUMNS = re.compile(r"Layer|(?:Avg\.|Median)? ?(?:Time)? ?\(ms\)|Time ?\(?%\)?")
_NUMBER = r"(-?(?:\d+\.?\d*|nan|inf))"
_NUMBERS_LAST = re.compile(rf"^(?P<name>.*?)\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}$")
_NUMBERS_FIRST = re.compile(rf"^{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+(?P<name>.*)$")


def read_table(lines: Sequence[LogLine]) -> Profile | None:
    """Read the table; ``None`` when the log has none.

    The name comes last in TensorRT 10 and first in 8.6: the header line tells. Layers without time are not in the
    table, and its last row is the total.
    """
    texts = [line.text.strip() for line in lines]
    head = next(((index, match) for index, text in enumerate(texts) if (match := _HEAD.match(text))), None)
    if head is None or head[0] + 1 >= len(texts):
        return None
    index, match = head
    header = texts[index + 1]
    if len(_COLUMNS.findall(header)) != 5:
        return None
    pattern = _NUMBERS_LAST if header.startswith("Layer") else _NUMBERS_FIRST
    rows = []
    for text in texts[index + 2 :]:
        row = pattern.match(text)
        if row is None:
            break
        rows.append(row)
    return Profile(count=int(match[1]), layers=tuple(_read_row(row) for row in rows[:-1]))


def _read_row(row: re.Match[str]) -> LayerTime:
    name = row["name"].strip()
    numbers = [group for position, group in enumerate(row.groups(), 1) if position != row.re.groupindex["name"]]
    time_ms, average_ms, median_ms, percentage = (_maybe(value) for value in numbers)
    return LayerTime(name=name, time_ms=time_ms, average_ms=average_ms, median_ms=median_ms, percentage=percentage)


def _maybe(text: str) -> float | None:
    value = float(text)
    return value if abs(value) < float("inf") else None
