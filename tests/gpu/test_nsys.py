"""What CUPTI and nsys record of copies that this test makes, on a GPU and with the real tools."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from enginewatch_harness.nsys import diagnose as module
from enginewatch_harness.nsys.diagnose import diagnose
from enginewatch_harness.nsys.events import MEMCPY

HAS_GPU = ctypes.util.find_library("nvidia-ml") is not None and shutil.which("nvidia-smi") is not None
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU"),
    pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="pip install cuda-bindings"),
]

# Memory that cudaMallocHost gave is pinned; three copies up, three down.
COPIES = """
from enginewatch_harness.backends.tensorrt_cuda import open_cuda
cuda = open_cuda()
cuda.use(0, spin=False)
stream, host, device = cuda.stream(), cuda.host_array(1 << 20), cuda.allocate(1 << 20)
def work():
    for _ in range(3):
        cuda.upload(device, host, stream)
        cuda.download(host, device, stream)
    cuda.synchronize(stream)
work()
"""


@pytest.mark.skipif(importlib.util.find_spec("cupti") is None, reason="pip install cupti-python")
def test_cupti_sees_every_copy_with_its_size():
    code = f"""
{COPIES}
from enginewatch_harness.nsys.cupti import CuptiRecorder, load_cupti
with CuptiRecorder(load_cupti()) as recorder:
    work()
for item in recorder.recording().work:
    print(item.kind, item.copy_kind, item.size_bytes, item.pageable, item.end_ns > item.start_ns)
print("calls", sum(call.name.startswith("cudaMemcpyAsync") for call in recorder.recording().calls))
"""
    # A process of its own: only one client may use CUPTI in a process, and torch's tests may have been here.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sorted(lines[:-1]) == ["memcpy 1 1048576 False True"] * 3 + ["memcpy 2 1048576 False True"] * 3
    assert lines[-1] == "calls 6"


@pytest.mark.skipif(
    shutil.which("nsys") is None and "NSYS" not in os.environ, reason="needs a complete nsys on PATH or in NSYS"
)
def test_nsys_records_and_exports_what_we_can_read(tmp_path, monkeypatch):
    tool = SimpleNamespace(trace_command=lambda *_: [sys.executable, "-c", COPIES])
    order = SimpleNamespace(backend="copies", job=None, engine=None, engine_path=None, timeout_s=None)
    seen = []
    real = module.profiled
    monkeypatch.setattr(
        module, "profiled", lambda recording, *rest: (seen.append(recording), real(recording, *rest))[1]
    )
    diagnose(tool, order, SimpleNamespace(work_dir=tmp_path, t0_ns=0))
    (recording,) = seen
    copies = [item for item in recording.work if item.kind == MEMCPY and item.size_bytes == 1 << 20]
    assert sorted((item.copy_kind, item.pageable) for item in copies) == [(1, False)] * 3 + [(2, False)] * 3
    assert recording.version is not None
    assert sum(call.name.startswith("cudaMemcpyAsync") for call in recording.calls) == 6
