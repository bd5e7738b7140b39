"""Take out of a report what tells of a person or a machine: environment, host and user names, paths.

A report holds far more than it shows: the environment of the process, its command line, its output, host names. So
nothing is crossed out; a new file gets only the tables and columns that a summary needs.
"""

from __future__ import annotations

import getpass
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from enginewatch_harness.nsys.sqlite import open_report
from enginewatch_harness.nsys.tables import Tables, quoted

PLACEHOLDER = "<private>"
_LEAST_LENGTH = 2
_LEAST_LENGTH_OF_VALUES = 6
"""Of values of environment variables: shorter ones are words of everyday use."""

_PATH = re.compile(r"(?<![\w.:<>…])~?/(?:[^\s/:'\",;]+/)+(?=[^\s/:'\",;]*)")
_SAYS_WHO = re.compile(r"HOST|USER|LOGNAME|HOME|ENVIRONMENT|COMMAND|ARGUMENT|PATH|DIR|WORKING", re.IGNORECASE)
"""Names of metadata: in the open (``META_DATA_CAPTURE``), or as ``DeviceEnvironment`` (until 2022 at least)."""

_SAYS_NOTHING = frozenset({"root", "none", "true", "false", "unknown", "localhost", "linux", "xterm", "utf-8"})

_PLACE = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "graphNodeId")
KEPT: dict[str, tuple[str, ...]] = {
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        *_PLACE,
        *("demangledName", "shortName", "mangledName"),
        *("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ"),
        *("registersPerThread", "staticSharedMemory", "dynamicSharedMemory", "localMemoryTotal"),
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (*_PLACE, "bytes", "copyKind", "srcKind", "dstKind"),
    "CUPTI_ACTIVITY_KIND_MEMSET": (*_PLACE, "bytes", "memKind"),
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": (*_PLACE, "graphId", "graphExecId"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "globalTid", "correlationId", "nameId", "returnValue"),
    "CUDA_GRAPH_NODE_EVENTS": ("start", "end", "globalTid", "nameId", "graphNodeId", "originalGraphNodeId"),
    "NVTX_EVENTS": ("start", "end", "eventType", "text", "textId", "domainId", "globalTid"),
    "TARGET_INFO_GPU": ("id", "name", "smCount", "clockRate", "totalMemory", "memoryBandwidth"),
    "ENUM_CUDA_MEM_KIND": ("id", "name", "label"),
    "ENUM_CUDA_MEMCPY_OPER": ("id", "name", "label"),
}
"""Tables of a scrubbed report, and their columns; of metadata only versions stay."""

_STRINGS = {
    "CUPTI_ACTIVITY_KIND_KERNEL": ("demangledName", "shortName", "mangledName"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("nameId",),
    "CUDA_GRAPH_NODE_EVENTS": ("nameId",),
    "NVTX_EVENTS": ("textId",),
}


class Scrubber:
    """Replaces private words in texts; a word is matched as a whole."""

    def __init__(self, words: Iterable[str]) -> None:
        chosen = {word for word in words if len(word) >= _LEAST_LENGTH and word.lower() not in _SAYS_NOTHING}
        listed = "|".join(re.escape(word) for word in sorted(chosen, key=lambda word: (-len(word), word)))
        self._words = re.compile(rf"(?<![A-Za-z0-9_])(?:{listed})(?![A-Za-z0-9_])") if chosen else None

    def name(self, text: str) -> str:
        """Return the name of a kernel or a layer without private words; its slashes are no paths."""
        return text if self._words is None else self._words.sub(PLACEHOLDER, text)

    def message(self, text: str) -> str:
        """Return what a tool said without private words, and of absolute paths only the last part."""
        return _PATH.sub("…/", self.name(text))


def local_words() -> frozenset[str]:
    """Return the names of this host, this user, and their home folder."""
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = ""
    return frozenset({host, host.partition(".")[0], user, str(Path.home())} - {"", "/"})


def private_words(tables: Tables) -> frozenset[str]:
    """Return what a report says of host, user, environment, command line and output."""
    found: set[str] = set()
    for table in ("META_DATA_CAPTURE", "META_DATA_EXPORT", "EXPORT_META_DATA", "TARGET_INFO_SYSTEM_ENV"):
        for name, value in tables.rows(table, ("name", "value"), needed=("name", "value")):
            if value and _SAYS_WHO.search(str(name)):
                found |= set(_parts(str(value)))
    for table, column in (("PROCESSES", "name"), ("ThreadNames", "nameId"), ("ANALYSIS_FILE", "filename")):
        for (value,) in tables.rows(table, (column,), needed=(column,)):
            text = tables.text(value) if isinstance(value, int) else value
            found |= set(_parts(text)) if text and "/" in text else set()
    return frozenset(found)


def _parts(value: str) -> Iterator[str]:
    """Yield a value, or the values of environment entries, and the home folders in it with their users."""
    for line in re.split(r"[\0\n]", value):
        entry = re.match(r"[A-Za-z_]\w*=", line)
        text = (line[entry.end() :] if entry else line).strip()
        if not re.fullmatch(r"[\d.,:]*", text) and not (entry and len(text) < _LEAST_LENGTH_OF_VALUES):
            yield text
        for user in re.findall(r"/home/([^/\s:]+)", line):
            yield user
            yield f"/home/{user}"


def scrub_report(source: Path, target: Path) -> None:
    """Write what is harmless of an exported report into a new one.

    Args:
        source: A file that ``nsys export --type=sqlite`` wrote; only read.
        target: The new file; what is there is replaced.

    Raises:
        MeasurementError: ``results_damaged``: ``source`` is no such file.
    """
    target.unlink(missing_ok=True)
    with open_report(source) as tables, closing(sqlite3.connect(target)) as new:
        scrubber = Scrubber(private_words(tables) | local_words())
        for table, columns in KEPT.items():
            _copy(tables, new, table, columns, scrubber)
        _copy_strings(tables, new, scrubber)
        new.execute("CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT)")
        versions = {"version": "EXPORT_PRODUCT_VERSION", "schema": "EXPORT_SCHEMA_VERSION"}
        rows = [(versions[key], value) for key, value in tables.metadata().items()]
        new.executemany("INSERT INTO META_DATA_EXPORT VALUES (?, ?)", rows)
        new.commit()


def _copy(tables: Tables, new: sqlite3.Connection, table: str, columns: tuple[str, ...], scrubber: Scrubber) -> None:
    have = set(tables.columns(table))
    kept = [column for column in columns if column in have]
    if not kept:
        return
    new.execute(f"CREATE TABLE {quoted(table)} ({', '.join(map(quoted, kept))})")
    rows = (
        tuple(scrubber.name(value) if isinstance(value, str) else value for value in row)
        for row in tables.rows(table, kept)
    )
    marks = ", ".join("?" for _ in kept)
    new.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", rows)  # noqa: S608 - names are quoted


def _copy_strings(tables: Tables, new: sqlite3.Connection, scrubber: Scrubber) -> None:
    used = {
        key
        for table, columns in _STRINGS.items()
        for column in columns
        for (key,) in tables.rows(table, (column,), needed=(column,))
    }
    new.execute('CREATE TABLE "StringIds" (id INTEGER PRIMARY KEY, value TEXT)')
    rows = [(key, scrubber.name(text)) for key, text in tables.strings.items() if key in used]
    new.executemany('INSERT INTO "StringIds" VALUES (?, ?)', rows)
