"""Exports of Nsight Systems as its versions write them, with known content, and a stand-in for the tool."""

from __future__ import annotations

import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

PID = (1 << 48) | (8111 << 24)
TID = PID | 8111
BASE = 5_000_000_000
PERIOD = 200_000
EXTRA = 3  # inferences before those that are counted

_PLACE = "start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL"
_CALLER = "streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER"
_SHAPE = (
    "registersPerThread INTEGER NOT NULL, gridX INTEGER NOT NULL, gridY INTEGER NOT NULL, gridZ INTEGER NOT NULL, "
    "blockX INTEGER NOT NULL, blockY INTEGER NOT NULL, blockZ INTEGER NOT NULL, staticSharedMemory INTEGER NOT NULL, "
    "dynamicSharedMemory INTEGER NOT NULL, localMemoryTotal INTEGER NOT NULL"
)
_COMMON = {
    "StringIds": "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL",
    "CUPTI_ACTIVITY_KIND_MEMCPY": f"{_PLACE}, {_CALLER}, bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL, "
    "srcKind INTEGER, dstKind INTEGER, graphNodeId INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMSET": f"{_PLACE}, {_CALLER}, value INTEGER NOT NULL, bytes INTEGER NOT NULL",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": f"{_PLACE}, {_CALLER}, graphId INTEGER NOT NULL, graphExecId INTEGER NOT NULL",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, "
    "globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL",
    "NVTX_EVENTS": "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT, globalTid INTEGER, "
    "textId INTEGER, domainId INTEGER",
    "CUDA_GRAPH_NODE_EVENTS": "start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, "
    "globalTid INTEGER, nameId INTEGER NOT NULL, graphNodeId INTEGER NOT NULL, originalGraphNodeId INTEGER",
    "TARGET_INFO_SYSTEM_ENV": "globalVid INTEGER, devStateName TEXT NOT NULL, name TEXT NOT NULL, "
    "nameEnum INTEGER NOT NULL, value TEXT NOT NULL",
    "PROCESSES": "globalPid INTEGER, pid INTEGER, name TEXT",
    "ENUM_CUDA_MEM_KIND": "id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT",
    "ENUM_CUDA_MEMCPY_OPER": "id INTEGER NOT NULL PRIMARY KEY, name TEXT, label TEXT",
    "META_DATA_CAPTURE": "name TEXT NOT NULL, value TEXT",
    "META_DATA_EXPORT": "name TEXT NOT NULL, value TEXT",
    "EXPORT_META_DATA": "name TEXT NOT NULL, value TEXT",
}
_KERNEL = {
    "2.9.1": f"{_PLACE}, {_CALLER}, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, {_SHAPE}, "
    "gridId INTEGER NOT NULL",
    "3.16.1": f"{_PLACE}, {_CALLER}, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, "
    f"mangledName INTEGER, launchType INTEGER, {_SHAPE}, graphNodeId INTEGER",
    "3.25.0": f"{_PLACE}, greenContextId INTEGER, {_CALLER}, demangledName INTEGER NOT NULL, "
    f"shortName INTEGER NOT NULL, mangledName INTEGER, launchType INTEGER, {_SHAPE}, graphNodeId INTEGER, "
    "graphId INTEGER, clusterX INTEGER, clusterY INTEGER, clusterZ INTEGER",
}
VERSIONS = {"2.9.1": "2022.2.1.31", "3.16.1": "2024.6.2.225", "3.25.0": "2026.2.1.106"}

STRINGS = {
    1: "void gemm<float, 128>(float const*, float*)",
    2: "gemm",
    3: "void relu<float>(float*)",
    4: "relu",
    5: "cudaLaunchKernel_v7000",
    6: "cudaMemcpyAsync_v3020",
    7: "cudaStreamSynchronize_v3020",
    8: "cudaGraphLaunch_v10000",
    9: "conv1 + relu1",
    10: "init_weights()",
    11: "cudaMemcpy_v3020",
    12: "ExecutionContext::enqueue",
    13: "Graph Node Creation",
    14: "relu2",
}


class Export:
    """An SQLite file in the making: a table is there only once it has a row, as nsys does it."""

    base, period, pid, tid = BASE, PERIOD, PID, TID

    def __init__(self, path: Path, schema: str) -> None:
        self.path, self.schema = path, schema
        self.connection = sqlite3.connect(path)
        self.there: dict[str, tuple[list[str], list[str]]] = {}

    def add(self, table: str, **values: object) -> None:
        """Add a row; columns that this version does not have are left out."""
        self.create(table)
        have, needed = self.there[table]
        row = dict.fromkeys(needed, 0) | {name: value for name, value in values.items() if name in have}
        listed = ", ".join(row)
        marks = ", ".join("?" for _ in row)
        self.connection.execute(f"INSERT INTO {table} ({listed}) VALUES ({marks})", tuple(row.values()))

    def create(self, table: str) -> None:
        """Create a table as this version has it."""
        if table not in self.there:
            columns = _KERNEL[self.schema] if table == "CUPTI_ACTIVITY_KIND_KERNEL" else _COMMON[table]
            self.connection.execute(f"CREATE TABLE {table} ({columns})")
            made = self.connection.execute(f"PRAGMA table_info({table})").fetchall()
            self.there[table] = [row[1] for row in made], [row[1] for row in made if row[3] or row[5]]

    def strings(self) -> None:
        """Add all strings."""
        for key, value in STRINGS.items():
            self.add("StringIds", id=key, value=value)

    def call(self, start: int, end: int, name: int, correlation: int) -> None:
        """Add an API call."""
        self.add(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=start,
            end=end,
            globalTid=TID,
            correlationId=correlation,
            nameId=name,
        )

    def kernel(self, start: int, end: int, name: int, correlation: int, *, grid: int = 8, node: int | None = None):
        """Add a kernel on stream 7."""
        self.add(
            "CUPTI_ACTIVITY_KIND_KERNEL",
            start=start,
            end=end,
            streamId=7,
            correlationId=correlation,
            globalPid=PID,
            demangledName=name,
            shortName=name + 1,
            gridX=grid,
            gridY=1,
            gridZ=1,
            blockX=128,
            blockY=1,
            blockZ=1,
            graphNodeId=node,
        )

    def copy(self, start: int, end: int, size: int, kind: int, correlation: int, *, source: int, target: int):
        """Add a copy on stream 14; kinds of memory: 0 pageable, 1 pinned, 2 device."""
        self.add(
            "CUPTI_ACTIVITY_KIND_MEMCPY",
            start=start,
            end=end,
            streamId=14,
            correlationId=correlation,
            globalPid=PID,
            bytes=size,
            copyKind=kind,
            srcKind=source,
            dstKind=target,
        )

    def versions(self) -> None:
        """Add the metadata of this version."""
        old = self.schema.startswith("2.")
        for name, value in (("VERSION", VERSIONS[self.schema]), ("", self.schema)):
            key = "EXPORT_PRODUCT_VERSION" if name else "EXPORT_SCHEMA_VERSION"
            self.add("EXPORT_META_DATA" if old else "META_DATA_EXPORT", name=key, value=value)
        if not old:
            for key, label in enumerate(("Pageable", "Pinned", "Device", "Array", "Managed")):
                self.add("ENUM_CUDA_MEM_KIND", id=key, name=f"KIND_{key}", label=label)

    def close(self) -> Path:
        """Write the file."""
        self.connection.commit()
        self.connection.close()
        return self.path


def stream_of_launches(export: Export, inferences: int) -> None:
    """Add uploads, then inferences of two kernels and a copy to pageable memory that overlaps the second kernel."""
    export.call(BASE, BASE + 50_000, 11, 1)
    export.copy(BASE + 10_000, BASE + 40_000, 1 << 20, 1, 1, source=1, target=2)
    export.call(BASE + 60_000, BASE + 61_000, 5, 2)
    export.kernel(BASE + 70_000, BASE + 80_000, 10, 2, grid=1)
    for index in range(inferences + EXTRA):
        at, corr = BASE + 1_000_000 + index * PERIOD, 100 + 4 * index
        export.call(at, at + 5_000, 5, corr)
        export.kernel(at + 20_000, at + 120_000, 1, corr)
        export.call(at + 6_000, at + 9_000, 5, corr + 1)
        export.kernel(at + 130_000, at + 150_000, 3, corr + 1, grid=2)
        export.call(at + 10_000, at + 12_000, 6, corr + 2)
        export.copy(at + 140_000, at + 180_000, 40_960, 2, corr + 2, source=2, target=0)
        export.call(at + 13_000, at + 185_000, 7, corr + 3)


@pytest.fixture
def export(tmp_path) -> Callable[..., Export]:
    """Return a maker of exports."""

    def make(schema: str = "3.16.1", name: str = "report.sqlite") -> Export:
        made = Export(tmp_path / name, schema)
        made.versions()
        made.strings()
        return made

    return make


@pytest.fixture
def launches(export) -> Callable[..., Path]:
    """Return a maker of the export with plain launches."""

    def make(inferences: int = 50, schema: str = "3.16.1") -> Path:
        made = export(schema)
        stream_of_launches(made, inferences)
        return made.close()

    return make


FAKE = '''#!{python} -IS
"""A stand-in for nsys: checks its arguments, runs what it is given, and hands out a prepared export."""
import json, sys
from pathlib import Path

HERE = Path(__file__).parent
SET = json.loads((HERE / "nsys.json").read_text())
KNOWN = {{"--trace": "cuda,nvtx", "--sample": "none", "--cpuctxsw": "none", "--cuda-graph-trace": "node",
          "--discard-environment": "true", "--stats": "false", "--force-overwrite": "true", "--output": None}}
words = sys.argv[1:]

def options(known):
    found = {{}}
    while words and words[0].startswith("-"):
        name, _, value = words.pop(0).partition("=")
        if name not in known or known[name] not in (None, value):
            sys.exit(f"unrecognised option {{name}}={{value}}")
        found[name] = value
    return found

if words == ["--version"]:
    print(f"NVIDIA Nsight Systems version {{SET['version']}}")
elif words == ["profile", "--help"]:
    print("".join(f"\\t{{name}}=\\n\\n\\t   Says what it does.\\n" for name in KNOWN if name not in SET["lacks"]))
elif words[0] == "profile":
    words.pop(0)
    given = options({{name: value for name, value in KNOWN.items() if name not in SET["lacks"]}})
    assert set(given) == set(KNOWN) - set(SET["lacks"]), given
    (HERE / "wrapped.json").write_text(json.dumps(words))
    import subprocess
    status = subprocess.run(words).returncode
    if SET["fails"]:
        sys.exit(SET["fails"])
    Path(given["--output"] + SET["suffix"]).write_text(str(HERE / "prepared.sqlite"))
    sys.exit(status)
elif words[0] == "export":
    words.pop(0)
    given = options({{"--type": "sqlite", "--output": None, "--force-overwrite": "true"}})
    if SET["exports"]:
        Path(given["--output"]).write_bytes(Path(Path(words[0]).read_text()).read_bytes())
    else:
        sys.exit("cannot import the raw events")
elif words[0] in ("stats", "analyze"):
    command, *words = words
    if SET["silent"] == command:
        sys.exit(f"{{command}}: the file {{words[-1]}} is of another version")
    assert "--force-export=true" not in words, "nsys refuses to export an .sqlite file"
    told = {{name: words[words.index(name) + 1] for name in ("--format", "--output")}}
    assert told["--format"] == "csv", words
    option = "--report" if command == "stats" else "--rule"
    for name in [words[index + 1] for index, word in enumerate(words) if word == option]:
        Path(told["--output"] + f"_{{name}}.csv").write_text(SET["csv"].get(name, ""))
else:
    sys.exit("unknown command")
'''


@pytest.fixture
def fake_nsys(tmp_path, monkeypatch, launches) -> Callable[..., Path]:
    """Return a maker of the stand-in, which NSYS then names; its export has the plain launches."""
    from enginewatch_harness.nsys import find

    def make(**settings: object) -> Path:
        import json

        folder = tmp_path / "fake"
        folder.mkdir()
        chosen = {
            "version": "2026.2.1.106-1",
            "lacks": [],
            "fails": 0,
            "suffix": ".nsys-rep",
            "exports": True,
            "silent": None,
            "csv": {},
            **settings,
        }
        (folder / "nsys.json").write_text(json.dumps(chosen))
        launches().rename(folder / "prepared.sqlite")
        script = folder / "nsys"
        script.write_text(FAKE.format(python=sys.executable))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("NSYS", str(script))
        find._identify.cache_clear()
        return folder

    yield make
    find._identify.cache_clear()


@pytest.fixture
def no_nsys(monkeypatch):
    """Hide every nsys of this machine."""
    from enginewatch_harness.nsys import find

    monkeypatch.delenv("NSYS", raising=False)
    monkeypatch.setattr(find.shutil, "which", lambda *_, **__: None)


@pytest.fixture
def query() -> Callable[[Path, str], list[tuple[object, ...]]]:
    """Return a way to ask an SQLite file."""

    def ask(path: Path, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(sql).fetchall()

    return ask
