"""The diagnosis of a run: by nsys, by CUPTI, or with the reason why there is none. It never fails a run."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import nullcontext

import pyarrow as pa
import pytest

from enginewatch_db.errors import BackendError, MeasurementError, NotAvailableError
from enginewatch_harness import worker
from enginewatch_harness.assemble import HIDDEN_OPTIONS
from enginewatch_harness.backends.base import Context, Job, Measurement, Profiled, Repeats, Wrapped
from enginewatch_harness.backends.tensorrt_api import TensorrtBackend
from enginewatch_harness.backends.torch_eager import TorchBackend
from enginewatch_harness.backends.trtexec import TrtexecBackend
from enginewatch_harness.nsys import diagnose as module
from enginewatch_harness.nsys import replay
from enginewatch_harness.nsys import told as told_module
from enginewatch_harness.nsys.diagnose import INFERENCES, asked_for, diagnose
from enginewatch_harness.nsys.profiled import DIAGNOSTICS
from enginewatch_harness.wire import WorkOrder, WorkResult

KERNELS = """Time (%),Total Time (ns),Instances,GridXYZ,Name
83.2,5300000,53,   8    1    1,"void gemm<float, 128>(float const*, float*)"
16.6,1060000,53,   2    1    1,void relu<float>(float*)
0.2,10000,1,   1    1    1,init_weights()
"""
"""What nsys says of the fixture's report."""


class Tool:
    """A backend that is a command."""

    name = "tool"

    def __init__(self, command=(sys.executable, "-c", "")):
        self.command = list(command)

    def trace_command(self, job, engine, engine_path, context, inferences):
        assert inferences == INFERENCES
        return self.command


class InProcess:
    """A backend that works in the process that calls it."""

    name = "in_process"

    def __init__(self):
        self.done = 0

    def repeat(self, job, engine, engine_path, context, *, inferences, watch):
        with watch:
            self.done += inferences


@pytest.fixture
def order(tmp_path) -> WorkOrder:
    job = Job(
        case_key="net/tool/fp16/b1",
        workload="net",
        model_path=tmp_path / "net.onnx",
        model_name="net",
        precision="fp16",
        warmup_s=0.1,
        duration_s=0.1,
        seed=1,
        options={"nsys": True},
    )
    return WorkOrder(action="measure", backend="tool", job=job, profile=True)


@pytest.fixture
def context(tmp_path) -> Context:
    folder = tmp_path / "run"
    folder.mkdir()
    return Context(work_dir=folder, t0_ns=0, enter=lambda _: None, progress=lambda *_: None)


def reasons(found: Profiled) -> dict[str, str | None]:
    assert [metric.metric for metric in found.metrics] == list(DIAGNOSTICS)
    return {metric.metric: metric.absent_reason for metric in found.metrics}


def test_the_command_runs_under_nsys_and_brings_kernels_and_metrics(fake_nsys, order, context):
    folder = fake_nsys()
    left_behind = context.work_dir / "nsys"
    left_behind.mkdir()
    (left_behind / "report.nsys-rep").write_text("of a run before that was killed")
    found = diagnose(Tool(), order, context)
    values = {metric.metric: metric.value for metric in found.metrics}
    assert json.loads((folder / "wrapped.json").read_text()) == [sys.executable, "-c", ""]
    assert found.tables["kernels"]["calls"].to_pylist() == [50, 50]
    assert set(found.tables["kernels"]["source"].to_pylist()) == {"nsys"}
    assert values["profile_kernels_per_inference"] == 2
    assert values["profile_launch_api_p50_us"] == 4.0
    assert {metric.source for metric in found.metrics} == {"nsys"}
    assert found.notes[0].startswith("nsys 2024.6.2.225: 50 inferences, 100 kernels")
    assert any("pageable" in note for note in found.notes)
    assert list(context.work_dir.iterdir()) == []  # the report has the environment in it: it is gone


def test_an_old_nsys_is_asked_for_what_it_knows(fake_nsys, order, context):
    fake_nsys(version="2021.2.1.58-642947b", lacks=["--discard-environment", "--cuda-graph-trace"], suffix=".qdrep")
    found = diagnose(Tool(), order, context)
    assert "kernels" in found.tables
    assert sum("nsys 2021.2.1 has no" in note for note in found.notes) == 2


def test_a_command_that_fails_at_its_end_still_gives_its_report(fake_nsys, order, context):
    fake_nsys()
    found = diagnose(Tool([sys.executable, "-c", "raise SystemExit(3)"]), order, context)
    assert "kernels" in found.tables
    assert "nsys: the command ended with status 3" in found.notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"suffix": ".qdstrm"}, "can only record"),
        ({"fails": 7}, "wrote no report (status 7)"),
        ({"exports": False}, "could not export its report (status 1): cannot import the raw events"),
    ],
)
def test_a_failing_nsys_makes_the_metrics_absent_with_its_words(fake_nsys, order, context, settings, words):
    fake_nsys(**settings)
    found = diagnose(Tool(), order, context)
    assert found.tables == {}
    assert all(words in reason for reason in reasons(found).values())
    assert words in found.notes[0]
    assert list(context.work_dir.iterdir()) == []


def test_it_stays_within_the_time_of_the_run(fake_nsys, order, context, monkeypatch):
    fake_nsys()
    short = dataclasses.replace(order, timeout_s=40.0)
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: 30_000_000_000)
    reason = reasons(diagnose(Tool(), short, context))["profile_gpu_idle_pct"]
    assert reason == "only 10 s of the run's 40 s are left, too few for nsys → raise measure.timeout_s in the plan"
    limits = []
    real = module.run_tool
    monkeypatch.setattr(module, "run_tool", lambda *a, **k: (limits.append(k["timeout_s"]), real(*a, **k))[1])
    told = []
    asked = told_module.run_tool
    monkeypatch.setattr(told_module, "run_tool", lambda *a, **k: (told.append(k["timeout_s"]), asked(*a, **k))[1])
    assert "kernels" in diagnose(Tool(), dataclasses.replace(order, timeout_s=120.0), context).tables
    assert limits == [45.0, 45.0]  # half of what is left, for accuracy comes after
    assert told == [22.5, 22.5]


def test_what_nsys_itself_says_is_noted(fake_nsys, order, context):
    findings = "Duration (ns),API Name\n40000,cudaMemcpyAsync_v3020\n20000,x\n"
    fake_nsys(csv={"cuda_gpu_kern_sum": KERNELS.replace("53,", "52,", 1), "cuda_memcpy_async": findings})
    notes = diagnose(Tool(), order, context).notes
    assert [note for note in notes if note.startswith("nsys's ")] == [
        "nsys's cuda_gpu_kern_sum and we differ on 1 of 3 kernels: void gemm<float, 128>(float const*, float*) "
        "took 5300 µs in 52 calls there, 5300 µs in 53 calls here"
    ]
    assert "nsys analyze, cuda_memcpy_async: 2 findings, the longest takes 40 µs, cudaMemcpyAsync_v3020" in notes


def test_the_diagnosis_stands_where_nsys_says_nothing_more(fake_nsys, order, context, monkeypatch):
    fake_nsys(silent="stats")
    found = diagnose(Tool(), order, context)
    assert "kernels" in found.tables
    (note,) = [note for note in found.notes if "stats" in note]
    assert note == "nsys 2026.2.1 stats ended with status 1: stats: the file …/report.sqlite is of another version"

    def late(*_, **__):
        raise MeasurementError("no time is left", code="timeout")

    monkeypatch.setattr(module, "ask_nsys", late)
    told = module._told(None, context.work_dir / "x.sqlite", None, order, context)
    assert told == ("nsys was not asked for its own statistics: no time is left",)


def test_a_command_that_hangs_is_killed_and_said(fake_nsys, order, context, monkeypatch):
    fake_nsys()
    monkeypatch.setattr(module, "LONGEST_S", 0.5)
    found = diagnose(Tool([sys.executable, "-c", "import signal; signal.pause()"]), order, context)
    assert "did not end within 0.5 s" in reasons(found)["profile_gpu_idle_pct"]


def test_without_nsys_the_reason_says_how_to_get_it(no_nsys, order, context):
    found = diagnose(Tool(), order, context)
    assert set(reasons(found).values()) == {
        "nsys was not found: neither on PATH nor where NVIDIA's packages put it → "
        "install NVIDIA's package nsight-systems-cli, or set NSYS to the path of nsys"
    }


def test_without_nsys_and_cupti_both_are_named(no_nsys, order, context, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupti", None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    reason = reasons(diagnose(InProcess(), order, context))["profile_gpu_idle_pct"]
    assert "nsys was not found" in reason
    assert "cupti-python is not installed → pip install 'enginewatch[gpu-diagnostics]'" in reason


def test_torch_keeps_cupti_to_itself(no_nsys, order, context, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", object())
    assert "torch uses CUPTI" in reasons(diagnose(InProcess(), order, context))["profile_gpu_idle_pct"]


def test_a_backend_without_a_gpu_process_says_so(order, context):
    assert "has no process of its own" in reasons(diagnose(object(), order, context))["profile_gpu_idle_pct"]


def test_it_is_asked_for_by_the_option_and_once_for_each_engine(order):
    assert asked_for(order)
    assert not asked_for(dataclasses.replace(order, profile=False))
    assert not asked_for(dataclasses.replace(order, job=dataclasses.replace(order.job, options={})))
    assert "nsys" in HIDDEN_OPTIONS


def test_the_backends_can_be_watched():
    assert isinstance(TrtexecBackend(), Wrapped)
    assert isinstance(TensorrtBackend(), Repeats)
    assert isinstance(TorchBackend(), Repeats)


def test_the_worker_adds_it_and_keeps_its_own_kernels(order, context, monkeypatch):
    samples, own, of_nsys = (pa.table({"of": [name]}) for name in ("samples", "own", "nsys"))

    class Measured(InProcess):
        def profile(self, job, engine, engine_path, context):
            return Profiled(tables={"kernels": own})

    found = Profiled(tables={"kernels": of_nsys}, notes=("seen",))
    monkeypatch.setattr(worker, "backend", lambda _: Measured())
    monkeypatch.setattr(worker, "diagnose", lambda *_: found)
    measured = WorkResult(measurement=Measurement(tables={"samples": samples}, window_ns=(0, 1)))
    seen = worker._look_inside(order, measured, context).measurement
    assert seen.tables == {"samples": samples, "kernels": own}
    assert seen.notes == ("seen",)


def test_a_process_of_its_own_repeats_the_order(fake_nsys, order, context, monkeypatch):
    folder = fake_nsys()
    diagnose(InProcess(), order, context)
    words = json.loads((folder / "wrapped.json").read_text())
    assert words[1:3] == ["-m", "enginewatch_harness.nsys.replay"]
    assert words[4] == str(INFERENCES)
    # The process itself could not find the backend, which is noted and fails nothing.
    assert os.path.basename(words[3]) == "nsys"  # noqa: PTH119


def test_the_replay_does_the_inferences_inside_the_watch(tmp_path, order, monkeypatch):
    tool = InProcess()
    monkeypatch.setattr(replay, "backend", lambda _: tool)
    monkeypatch.setattr(replay, "marked", lambda _: nullcontext())
    module.write_order(tmp_path, order)
    replay.replay(tmp_path, 7)
    assert tool.done == 7
    monkeypatch.setattr(replay, "backend", lambda _: Tool())
    with pytest.raises(BackendError, match="cannot be watched"):
        replay.replay(tmp_path, 7)


def test_the_replay_ends_with_the_backends_words(tmp_path, order, monkeypatch, capsys):
    def refuse(_):
        raise NotAvailableError("no GPU here", remedy="buy one")

    monkeypatch.setattr(replay, "backend", refuse)
    monkeypatch.setattr(sys, "argv", ["replay", str(tmp_path), "3"])
    module.write_order(tmp_path, order)
    assert replay.main() == 1
    assert capsys.readouterr().err == "no GPU here\n"
