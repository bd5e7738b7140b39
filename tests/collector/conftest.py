"""The fake NVML library, compiled against NVIDIA's header, and a way to sample without waiting."""

from __future__ import annotations

import ctypes
import importlib.metadata
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pynvml
import pytest

from enginewatch_collector.backends.nvml import NvmlBackend
from enginewatch_collector.buffer import TelemetryBuffer
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.sampler import Sampler

DATA = Path(__file__).parents[1] / "data" / "collector"
OWNER_PID = 1 << 30
"""No process has this id: whatever is in the process table is foreign to it."""


def _header_folder() -> Path:
    files = importlib.metadata.files("nvidia-nvml-dev") or []
    header = next(file for file in files if file.name == "nvml.h")
    return Path(str(header.locate())).parent


@pytest.fixture(scope="session")
def nvml_folders(tmp_path_factory) -> dict[str, Path]:
    """Folders with a ``libnvidia-ml.so.1`` of a current and of an old driver."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folders = {}
    for name, options in (("current", []), ("old", ["-DOLD_DRIVER"])):
        folders[name] = tmp_path_factory.mktemp(f"nvml-{name}")
        command = [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{_header_folder()}", *options]
        command += ["-Wl,-soname,libnvidia-ml.so.1", "-o", str(folders[name] / "libnvidia-ml.so.1")]
        subprocess.run([*command, str(DATA / "fake_nvml.c"), "-lm"], check=True)
    return folders


class FakeNvml:
    """The real binding on the fake library, with a clock that only the test moves."""

    def __init__(self, library: ctypes.CDLL, setenv: Callable[[str, str], None]) -> None:
        self.library = library
        self._setenv = setenv
        self.slept_s: list[float] = []
        self.clock_is(1_000_000_000)

    def clock_is(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.library.fake_set_clock(ctypes.c_ulonglong(now_ns))

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.clock_is(self.now_ns + round(seconds * 1e9))

    def count(self, what: str) -> int:
        self.library.fake_count.restype = ctypes.c_long
        return self.library.fake_count(what.encode())

    def configure(self, options: str) -> None:
        self._setenv("FAKE_NVML", options)

    def backend(self, **changes: object) -> NvmlBackend:
        options = {"owner_pid": OWNER_PID, "clock": lambda: self.now_ns, "sleep": self.sleep}
        return NvmlBackend(**(options | changes))

    def sample(self, options: str = "", *, ticks: int = 31, rate_hz: float = 10.0):
        """Sample ``ticks`` ticks; return the table, the log and the closed backend."""
        self.configure(options)
        log, buffer, backend = QualityLog(), TelemetryBuffer(), self.backend()
        backend.open(log)
        sampler = Sampler([backend], rate_hz, log, buffer.append, clock=lambda: self.now_ns)
        left = ticks

        def wait(deadline_ns: int) -> bool:
            nonlocal left
            left -= 1
            self.clock_is(max(self.now_ns, deadline_ns))
            return left < 0

        sampler.run(wait)
        backend.close()
        return buffer.to_table(), log, backend


@pytest.fixture
def fake_nvml_of(nvml_folders, monkeypatch) -> Iterator[Callable[[str], FakeNvml]]:
    """Put the binding on the library of a named driver."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def use(name: str) -> FakeNvml:
        library = ctypes.CDLL(str(nvml_folders[name] / "libnvidia-ml.so.1"))
        monkeypatch.setattr(pynvml, "nvmlLib", library)
        # the binding keeps function pointers of the library that it saw first
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        return FakeNvml(library, monkeypatch.setenv)

    return use


@pytest.fixture
def fake_nvml(fake_nvml_of) -> FakeNvml:
    return fake_nvml_of("current")


@pytest.fixture
def values_of() -> Callable[..., list[object]]:
    """Return the values of a column that are there, of one device."""

    def pick(table: pa.Table, column: str, device: str = "gpu0") -> list[object]:
        rows = [row for row in table.select(["device", column]).to_pylist() if row["device"] == device]
        return [row[column] for row in rows if row[column] is not None]

    return pick


@pytest.fixture
def data_folder() -> Path:
    return DATA


@pytest.fixture
def let_run() -> Callable[..., None]:
    """Let a collector work: wait for its end, which must not come within ``seconds``."""
    import os

    def wait(pid: int, seconds: float) -> None:
        fd = os.pidfd_open(pid)
        try:
            assert select.select([fd], [], [], seconds)[0] == [], "the collector ended by itself"
        finally:
            os.close(fd)

    return wait
