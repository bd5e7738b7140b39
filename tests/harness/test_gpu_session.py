"""Whole sessions on GPUs that a fake driver lists: the device reaches the tool, the store and the telemetry."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from click.testing import CliRunner

from enginewatch_db.connect import Reader
from enginewatch_db.errors import UnfitError
from enginewatch_db.model import RunStatus
from enginewatch_harness import events
from enginewatch_harness.backends import trtexec_find
from enginewatch_harness.commands.doctor import doctor
from enginewatch_harness.commands.run import run
from enginewatch_harness.gpu_devices import host_gpus
from enginewatch_harness.gpu_lease import lease
from enginewatch_harness.models import write_model
from enginewatch_harness.plan_file import load_plan
from enginewatch_harness.registry import availability
from enginewatch_harness.session_request import SessionRequest, as_begun, plan_cases

DATA = Path(__file__).parents[1] / "data"
GPU0, GPU1 = (f"GPU-0000000{i}-0000-0000-0000-000000000000" for i in (0, 1))
MIG0 = "MIG-5111ce00-0000-5000-8000-000000000000"

STAND_IN = '''#!{python}
"""Notes the environment that it was started in, and answers with recordings of TensorRT 8.6."""
import gzip, json, os, sys
from pathlib import Path

data = Path({data!r})
options = dict(item.partition("=")[::2] for item in sys.argv[1:])
action = "help" if "--help" in options else "build" if "--saveEngine" in options else \\
    "profile" if "--exportProfile" in options else "run"
with open({calls!r}, "a") as log:
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    log.write(json.dumps([action, [os.environ.get(name) for name in names]]) + "\\n")
name = {{"help": "help", "build": "build-resnet50-fp16"}}.get(action, "resnet50-fp16-b8")
for flag, suffix in (("--exportTimes", ".times.json"), ("--exportProfile", ".profile.json"),
                     ("--exportLayerInfo", ".layers.json")):
    if flag in options and action != "build":
        Path(options[flag]).write_bytes(gzip.decompress((data / (name + suffix + ".gz")).read_bytes()))
if action == "build":
    Path(options["--saveEngine"]).write_bytes(b"an engine")
for stream, suffix in ((sys.stdout, ".stdout.log.gz"), (sys.stderr, ".stderr.log.gz")):
    stream.buffer.write(gzip.decompress((data / (name + suffix)).read_bytes()))
    stream.flush()
'''

PLAN = """
name = "gpu"
repeats = 1
{top}
[measure]
warmup_s = 0.02
duration_s = 0.05
[[model]]
name = "net"
path = "model.onnx"
[[workload]]
name = "net"
model = "net"
backends = ["trtexec"]
precisions = ["fp16"]
batches = [8]
options = {{ accuracy = false, profile = false }}
{workload}
"""


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory) -> Path:
    """A folder with a ``libnvidia-ml.so.1`` whose GPUs ``$FAKE_NVML`` describes."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    files = importlib.metadata.files("nvidia-nvml-dev") or []
    header = Path(str(next(file for file in files if file.name == "nvml.h").locate())).parent
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", f"-I{header}", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(library)]
    subprocess.run([*command, str(DATA / "collector" / "fake_nvml.c"), "-lm"], check=True)
    return folder


@pytest.fixture
def gpus(fake_driver, tmp_path, monkeypatch):
    """Give this host the GPUs of a description, for this process and for its children."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(fake_driver / "libnvidia-ml.so.1")))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_driver))
    monkeypatch.setenv("ENGINEWATCH_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def describe(text: str) -> None:
        monkeypatch.setenv("FAKE_NVML", text)
        host_gpus.cache_clear()

    yield describe
    host_gpus.cache_clear()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Put a stand-in for trtexec in place; return what it was called for and in which environment."""
    log = tmp_path / "calls.jsonl"
    program = tmp_path / "trtexec"
    data = DATA / "harness" / "trtexec"
    program.write_text(STAND_IN.format(python=sys.executable, data=str(data), calls=str(log)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("TRTEXEC", str(program))
    trtexec_find._identify.cache_clear()
    availability.cache_clear()
    yield lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    trtexec_find._identify.cache_clear()
    availability.cache_clear()


@pytest.fixture
def plan(tmp_path):
    def write(*, top: str = "", workload: str = "") -> Path:
        write_model("convnet_tiny", tmp_path / "model.onnx", seed=1)
        path = tmp_path / "plan.toml"
        path.write_text(PLAN.format(top=top, workload=workload))
        return path

    return write


def stored(workspace, sql: str) -> list[dict[str, object]]:
    with Reader.open(workspace) as reader:
        return reader.console(sql).to_pylist()


def environments(calls, *actions: str) -> list[list[str | None]]:
    return [environment for action, environment in calls() if action in actions]


def test_the_tool_sees_its_gpu_alone_and_the_store_keeps_which_it_was(gpus, calls, plan, run_plan, workspace):
    gpus("gpus=2;mixed=1")
    heard: list[events.Event] = []
    outcome = run_plan(plan(workload='gpus = ["Fake L4", "NVIDIA B200"]'), heard=heard)

    assert environments(calls, "build", "run") == [[GPU1, "PCI_BUS_ID"]] * 2
    (record,) = outcome.records
    assert (record.status, record.case_key, record.device_uuid) == (RunStatus.OK, "net/trtexec/fp16/b8/fake-l4", GPU1)
    assert (record.environment["gpu_uuid"], record.environment["gpu_driver"]) == (GPU1, "580.159.04")
    assert "GPU-" not in json.dumps(record.identity.options)
    assert [device["uuid"] for device in record.devices if "uuid" in device] == [GPU1]
    assert stored(workspace, "SELECT device_uuid FROM runs") == [{"device_uuid": GPU1}]
    # what needs another host is named, kept with the session, and no failure
    left = {"net/trtexec/fp16/b8/b200": "it needs NVIDIA B200, and this host has Fake H200, Fake L4"}
    assert outcome.left == left
    (said,) = [event.text for event in heard if isinstance(event, events.Note) and "another host" in event.text]
    assert "net/trtexec/fp16/b8/b200" in said
    details = json.loads(str(stored(workspace, "SELECT details FROM sessions")[0]["details"]))
    assert (details["cases"], details["left_for_another_host"]) == ([record.case_key], left)


def test_a_slice_is_bound_by_its_own_uuid_and_sampled_through_its_gpu(gpus, calls, plan, run_plan):
    gpus("mig=1")
    (record,) = run_plan(plan(top='gpus = ["Fake H200 MIG 1g.18gb"]')).records
    assert environments(calls, "run") == [[MIG0, "PCI_BUS_ID"]]
    assert (record.case_key, record.device_uuid) == ("net/trtexec/fp16/b8", MIG0)
    (gpu,) = [device for device in record.devices if "uuid" in device]
    assert (gpu["uuid"], gpu["gpu_instance"]) == (GPU0, 7)
    assert "mig_parent_sampled" in [event["kind"] for event in record.quality["events"]]


def test_another_of_equal_gpus_is_measured_on_request_is_no_other_series_and_stays_when_resumed(
    gpus, calls, plan, run_plan
):
    gpus("gpus=2")
    path = plan()
    records = [run_plan(path, device=device).records[0] for device in (None, "GPU-00000001")]
    assert environments(calls, "run") == [[GPU0, "PCI_BUS_ID"], [GPU1, "PCI_BUS_ID"]]
    assert records[0].identity == records[1].identity
    parsed, sha256 = load_plan(path)
    request = SessionRequest(plan=parsed, plan_path=path, plan_sha256=sha256, resume=True)
    (case,) = plan_cases(as_begun(request, records[1].session))
    assert case.bound.uuid == records[1].session["device"] == GPU1


def test_a_gpu_that_another_session_measures_on_is_refused_before_anything_runs(gpus, calls, plan, run_plan):
    gpus("gpus=2")
    with (
        lease(host_gpus().devices[:1], wait_s=0),
        pytest.raises(UnfitError, match=f"another session measures on Fake H200 {GPU0}.*process {os.getpid()}"),
    ):
        run_plan(plan())
    assert environments(calls, "build", "run") == []


def test_the_environment_of_the_user_is_honoured(gpus, plan, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpus("gpus=2")
    parsed, sha256 = load_plan(path := plan())
    (case,) = plan_cases(SessionRequest(plan=parsed, plan_path=path, plan_sha256=sha256))
    assert case.bound.uuid == GPU1


def test_a_plan_for_gpus_of_another_host_is_refused_whole(gpus, calls, plan, run_plan):
    gpus("init_error=12")
    with pytest.raises(UnfitError, match=r"none of the plan's 1 cases.*it needs Fake L4, and no NVIDIA driver answers"):
        run_plan(plan(top='gpus = ["Fake L4"]'))


def test_a_dry_run_tells_what_runs_here_and_what_elsewhere(gpus, calls, plan, workspace):
    gpus("gpus=2;mixed=1")
    path = plan(workload='gpus = ["Fake H200", "NVIDIA B200"]')
    shown = CliRunner().invoke(run, [str(path), "--dry-run", "--store", str(workspace.root)])
    assert shown.exit_code == 0, shown.output
    assert f"here: Fake H200 {GPU0}\n" in shown.stdout
    assert "elsewhere: net/trtexec/fp16/b8/b200: it needs NVIDIA B200, and this host has" in shown.stdout
    assert "1 cases x 1 repeats = 1 runs" in shown.stdout


def test_doctor_lists_gpus_and_slices_by_uuid_and_what_of_a_plan_runs_here(gpus, calls, plan, workspace):
    gpus("gpus=2;mig=1")
    path = plan(workload='gpus = ["Fake H200", "NVIDIA B200"]')
    shown = CliRunner().invoke(doctor, ["--plan", str(path), "--json", "--store", str(workspace.root)])
    items = {item["name"]: item for item in json.loads(shown.stdout)}
    assert items["GPU 0 MIG 1g.18gb"]["found"] == f"Fake H200 MIG 1g.18gb, {MIG0}, 16384 MiB, compute 9.0"
    assert items["GPU 1"]["found"] == f"Fake H200, {GPU1}, 143771 MiB, compute 9.0"
    told = items[f"plan {path}"]
    assert told["state"] == "warning"
    assert told["found"].startswith(f"1 case on Fake H200 {GPU1}; left for another host: net/trtexec/fp16/b8/b200 (")


def test_doctor_says_why_there_is_no_gpu(gpus, workspace, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    gpus("init_error=12")
    shown = CliRunner().invoke(doctor, ["--json", "--store", str(workspace.root)])
    (gpu,) = [item for item in json.loads(shown.stdout) if item["name"] == "GPU"]
    assert gpu["found"] == "no NVIDIA driver answers: library_not_found; the CPU default is used"
