"""Events of a worker in whatever pieces they are read, and what is left of it however it ends."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db.model import Failure, Phase
from enginewatch_harness import workers
from enginewatch_harness.accuracy.compare import absent_accuracy
from enginewatch_harness.backends.base import Job, Measurement
from enginewatch_harness.wire import EVENTS as EVENTS_FILE
from enginewatch_harness.wire import LOOK_S, NOT_YET, WorkOrder, WorkResult, write_result
from enginewatch_harness.workers import Followed, run_worker

EVENTS = [
    {"t_ns": 10, "t0_ns": 10},
    {"t_ns": 20, "phase": "load"},
    {"t_ns": 30, "phase": "measure"},
    {"t_ns": 35, "n": 5, "median_ms": 1.25},
    {"t_ns": 40, "phase": "drain"},
    {"t_ns": 50, "end": True},
]
TEXT = "".join(json.dumps(event) + "\n" for event in EVENTS)


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_the_pieces_do_not_matter(cuts):
    followed, heard = Followed(), []
    edges = [0, *sorted(cuts), len(TEXT)]
    for start, end in itertools.pairwise(edges):
        followed.drain(TEXT[start:end], lambda n, median_ms: heard.append((n, median_ms)))
    assert heard == [(5, 1.25)]
    assert followed.t0_ns == 10
    marks = [(mark.name, mark.start_ns, mark.end_ns) for mark in followed.phases()]
    assert marks == [(Phase.LOAD, 20, 30), (Phase.MEASURE, 30, 40), (Phase.DRAIN, 40, 50)]


def test_a_worker_that_said_nothing_has_no_phases():
    assert Followed().phases() == ()


EARLY = WorkResult(
    measurement=Measurement(window_ns=(1, 2), tables={}, metrics=absent_accuracy(NOT_YET), notes=("measured",)),
    sentinel_ns=(7,),
    early=True,
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Follow a process that says and leaves what a worker would; return its result."""
    real_start = workers.start

    def run(command: str, phase: Phase, result: WorkResult | None = EARLY, timeout_s: float = 60.0) -> WorkResult:
        def start(_argv, **where):
            now_ns = time.monotonic_ns()
            phases = (Phase.LOAD, Phase.MEASURE, Phase.DRAIN, phase)
            said = [{"t_ns": now_ns, "t0_ns": now_ns}, *({"t_ns": now_ns, "phase": name} for name in phases)]
            (tmp_path / EVENTS_FILE).write_text("".join(json.dumps(event) + "\n" for event in said))
            if result is not None:
                write_result(tmp_path, result)
            return real_start(["/bin/sh", "-c", command], **where)

        monkeypatch.setattr(workers, "start", start)
        job = Job(
            case_key="net",
            workload="net",
            model_path=tmp_path,
            model_name="net",
            precision="fp32",
            warmup_s=0.0,
            duration_s=0.1,
            seed=1,
        )
        order = WorkOrder(action="measure", backend="onnxruntime", job=job)
        return run_worker(tmp_path, order, timeout_s=timeout_s, on_progress=lambda *_: None)[0]

    return run


@pytest.mark.parametrize(
    ("command", "phase", "why"),
    [
        ("kill -SEGV $$", Phase.ACCURACY, "the accuracy check was ended by SIGSEGV"),
        ("kill -KILL $$", Phase.PROFILE, "the profile was ended by SIGKILL"),
        ("echo no luck >&2; exit 3", Phase.ACCURACY, "the accuracy check ended the process with status 3: no luck"),
        ("exit 1", Phase.DRAIN, "what follows the measurement ended the process with status 1: no message"),
    ],
)
def test_a_crash_while_looking_inside_leaves_the_measurement(run, command, phase, why):
    result = run(command, phase)
    assert result.failure is None
    assert result.sentinel_ns == (7,)
    assert result.measurement.notes == ("measured", why)
    assert {item.absent_reason for item in result.measurement.metrics} == {why}


def test_a_look_inside_that_takes_too_long_leaves_the_measurement(run, monkeypatch):
    monkeypatch.setattr(workers, "LOOK_S", 0.05)
    result = run("exec sleep 60", Phase.ACCURACY, timeout_s=0.01)
    (why,) = {item.absent_reason for item in result.measurement.metrics}
    assert why == result.measurement.notes[-1]
    assert why.startswith("the accuracy check was stopped after 0 s: ")
    assert "raise measure.timeout_s" in why


def test_a_crash_before_anything_was_measured_is_a_failure(run):
    assert run("kill -SEGV $$", Phase.DRAIN, result=None).failure.code == "killed"
    assert run("exec sleep 60", Phase.DRAIN, result=None, timeout_s=0.01).failure.code == "timeout"


def test_a_failure_that_was_found_while_looking_inside_is_one(run):
    failure = Failure(code="output_not_finite", message="NaN", remedy="")
    assert run("exit 0", Phase.ACCURACY, result=WorkResult(failure=failure)).failure == failure


@pytest.mark.parametrize(("timeout_s", "end_s"), [(10.0, 3.0 + LOOK_S), (600.0, 601.0)])
def test_looking_inside_has_a_minute_or_what_is_left(timeout_s, end_s):
    followed = Followed(entered=[(Phase.MEASURE, 2 * 10**9), (Phase.PROFILE, 3 * 10**9), (Phase.ACCURACY, 9 * 10**9)])
    assert followed.deadline_s(1.0, timeout_s) == end_s
    assert Followed(entered=followed.entered[:1]).deadline_s(1.0, timeout_s) == 1.0 + timeout_s
