"""Whole sessions over real engines: what is stored, what a fault costs, what a resumed session adds."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal

import numpy as np
import pytest

from enginewatch_db import bundle
from enginewatch_db.connect import Reader
from enginewatch_db.errors import DiskFullError, PlanError, StorageError, StoreLockedError, UsageError
from enginewatch_db.model import Phase, RunStatus
from enginewatch_db.workspace import Workspace
from enginewatch_harness import events, session, workers
from enginewatch_harness.accuracy.check import ELSEWHERE
from enginewatch_harness.session_request import failed_cases


def query(workspace, sql: str) -> list[dict[str, object]]:
    with Reader.open(workspace) as reader:
        return reader.console(sql).to_pylist()


class StopAt(list):
    """A list of events that presses Ctrl-C at the n-th of a kind."""

    def __init__(self, kind: type, n: int = 1) -> None:
        super().__init__()
        self.kind, self.n = kind, n

    def append(self, event):
        super().append(event)
        if isinstance(event, self.kind) and sum(isinstance(item, self.kind) for item in self) == self.n:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_plan_in, run_plan_in):
    """A session of two cases, two runs each: workspace, outcome and events. Tests only read it."""
    folder = tmp_path_factory.mktemp("plain")
    workspace, heard = Workspace(folder / "ew").create(), []
    return workspace, run_plan_in(workspace, tiny_plan_in(folder), heard=heard, label="first"), heard


@pytest.fixture
def measured(plain, tmp_path):
    """A copy of that session's workspace, and its engines."""
    copied = Workspace(tmp_path / "measured")
    shutil.copytree(plain[0].root, copied.root)
    return copied, {record.engine.engine_sha256 for record in plain[1].records}


def test_a_session_stores_samples_telemetry_and_control_of_every_run(plain):
    workspace, outcome, heard = plain
    assert [record.status for record in outcome.records] == [RunStatus.OK] * 4
    runs = query(workspace, "SELECT case_key, repeat, valid, session_label, engine_cached FROM v_runs ORDER BY ALL")
    assert [(run["case_key"][-2:], run["repeat"]) for run in runs] == [("b1", 0), ("b1", 1), ("b2", 0), ("b2", 1)]
    assert {run["session_label"] for run in runs} == {"first"}
    for record in outcome.records:
        samples = query(workspace, f"SELECT count(*) AS n FROM latency_samples WHERE run_id = '{record.run_id}'")
        metric = {item.metric: item for item in record.metrics}
        assert samples[0]["n"] == metric["latency_p50_ms"].n > 20
        assert metric["host_sentinel_ms"].value is not None
        assert metric["cpu_util_mean_pct"].value is not None
        phases = [mark.name for mark in record.phases]
        looked_inside = [Phase.PROFILE, Phase.ACCURACY] if record.repeat == 0 else []
        assert phases == [Phase.LOAD, Phase.WARMUP, Phase.MEASURE, Phase.DRAIN, *looked_inside]
    telemetry = query(workspace, "SELECT DISTINCT phase FROM telemetry WHERE phase IS NOT NULL")
    assert {"measure"} <= {row["phase"] for row in telemetry}
    assert sum(isinstance(event, events.RunFinished) for event in heard) == 4


def test_metrics_are_those_of_the_stored_samples(plain):
    workspace, outcome, _ = plain
    record = outcome.records[0]
    rows = query(workspace, f"SELECT latency_ns FROM latency_samples WHERE run_id = '{record.run_id}'")
    latency_ms = np.array([row["latency_ns"] for row in rows]) / 1e6
    metric = {item.metric: item.value for item in record.metrics}
    assert metric["latency_mean_ms"] == pytest.approx(latency_ms.mean())
    assert metric["latency_p50_ms"] == pytest.approx(np.median(latency_ms), rel=0.05)
    assert metric["throughput_qps"] == pytest.approx(1000 / latency_ms.mean(), rel=0.2)


def test_accuracy_is_taken_once_for_each_engine_on_the_data_of_the_plan(workspace, tiny_plan, run_plan, tmp_path):
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "real.npz", input=images)
    path = tiny_plan(precisions='"int8"', batches="1", extra='options = { accuracy_data = "real.npz" }')
    for record in run_plan(path).records:
        assert record.failure is None
        metric = {item.metric: item for item in record.metrics}["output_rel_l2"]
        notes = [note for note in record.provenance["notes"] if note.startswith("accuracy on 4 batches of real.npz")]
        if record.repeat == 0:
            assert 0 < metric.value < 0.2
            assert len(notes) == 1
        else:
            assert metric.value is None
            assert metric.absent_reason == "checked once for each engine of a session, in its first run"
            assert notes == []
    (tmp_path / "real.npz").unlink()
    with pytest.raises(PlanError, match=r"accuracy_data = .*real\.npz' does not exist"):
        run_plan(path)


def test_engines_are_built_once_and_reused(plain, measured, tiny_plan, run_plan_in):
    workspace, before = measured
    second = run_plan_in(workspace, tiny_plan(repeats=1, batches="1"))
    assert {record.engine.cached for record in plain[1].records} == {False}
    assert {record.engine.cached for record in second.records} == {True}
    assert len(before) == 1
    assert {record.engine.engine_sha256 for record in second.records} == before
    built = [metric for metric in second.records[0].metrics if metric.metric == "build_time_s"]
    assert built[0].value is None
    assert "cache" in str(built[0].absent_reason)


def test_an_altered_engine_is_built_again(measured, tiny_plan, run_plan_in):
    workspace, _ = measured
    engine = next(workspace.engines.glob("*/engine"))
    engine.write_bytes(engine.read_bytes()[:-50])
    record = run_plan_in(workspace, tiny_plan(repeats=1, batches="1")).records[0]
    assert record.status is RunStatus.OK
    assert not record.engine.cached


def test_an_absent_backend_is_reported_with_its_remedy_and_the_rest_runs(tiny_plan, run_plan, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("TRTEXEC", raising=False)
    from enginewatch_harness.registry import availability

    availability.cache_clear()
    outcome = run_plan(tiny_plan(backends='"trtexec", "onnxruntime"', repeats=1, batches="1"))
    availability.cache_clear()
    by_backend = {record.identity.backend: record for record in outcome.records}
    absent = by_backend["trtexec"]
    assert absent.status is RunStatus.NOT_AVAILABLE
    assert absent.failure is not None
    assert absent.failure.remedy
    assert by_backend["onnxruntime"].status is RunStatus.OK
    assert failed_cases(outcome.records) == {}


def test_a_missing_model_file_is_refused_before_anything_is_measured(workspace, tiny_plan, run_plan):
    with pytest.raises(PlanError, match=r"nowhere\.onnx"):
        run_plan(tiny_plan(source='path = "nowhere.onnx"'))
    assert not workspace.store.exists()


def test_a_corrupt_model_fails_its_cases_and_no_other(tmp_path, tiny_plan, run_plan):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07garbage that is no protobuf \xff\xff")
    extra = '[[model]]\nname = "broken"\npath = "broken.onnx"\n[[workload]]\nname = "bad"\nmodel = "broken"\n'
    extra += 'backends = ["onnxruntime"]\nprecisions = ["fp32"]\nbatches = [1]\n'
    outcome = run_plan(tiny_plan(extra=extra, batches="1", repeats=1))
    failures = failed_cases(outcome.records)
    assert {key: failure.code for key, failure in failures.items()} == {"bad/onnxruntime/fp32/b1": "model_corrupt"}
    assert "broken.onnx" in failures["bad/onnxruntime/fp32/b1"].message
    assert sum(record.status is RunStatus.OK for record in outcome.records) == 1


def test_a_model_that_writes_nan_fails_its_run(tmp_path, tiny_plan, run_plan):
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["y"])],
        "nan",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "nan.onnx")
    outcome = run_plan(tiny_plan(source='path = "nan.onnx"', batches="1", repeats=1))
    assert outcome.records[0].failure is not None
    assert outcome.records[0].failure.code == "output_not_finite"
    assert not outcome.records[0].valid


def test_a_killed_worker_costs_one_run(tiny_plan, run_plan, monkeypatch):
    real_start = workers.start
    started = []

    def start_and_kill_the_second(*args, **kwargs):
        process = real_start(*args, **kwargs)
        started.append(process)
        if len(started) == 2:
            os.killpg(process.pid, signal.SIGKILL)
        return process

    # The first one builds.
    monkeypatch.setattr(workers, "start", start_and_kill_the_second)
    path = tiny_plan(repeats=1)
    outcome = run_plan(path)
    failed = [record for record in outcome.records if record.status is RunStatus.FAILED]
    assert [record.failure.code for record in failed] == ["killed"]
    assert "SIGKILL" in failed[0].failure.message
    assert sum(record.status is RunStatus.OK for record in outcome.records) == 1

    # What was killed is worth another try; what ended well is not repeated.
    monkeypatch.setattr(workers, "start", real_start)
    again = run_plan(path, resume=True)
    assert len(again.records) == 3
    assert sum(record.status is RunStatus.OK for record in again.records) == 2
    with pytest.raises(UsageError, match="no unfinished session"):
        run_plan(path, resume=True)


CRASH = """
import os, signal, sys
from enginewatch_harness import worker
from enginewatch_harness.backends.onnxruntime import OnnxRuntimeBackend
OnnxRuntimeBackend.infer = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
sys.exit(worker.main())
"""


def test_a_library_that_crashes_in_the_accuracy_check_costs_no_run(tiny_plan, run_plan, monkeypatch):
    real_start = workers.start

    def start(argv, **kwargs):
        return real_start([argv[0], "-c", CRASH, argv[-1]], **kwargs)

    monkeypatch.setattr(workers, "start", start)
    outcome = run_plan(tiny_plan(batches="1"))
    assert [record.status for record in outcome.records] == [RunStatus.OK] * 2
    why = "the accuracy check was ended by SIGSEGV"
    for record, said in zip(outcome.records, (why, ELSEWHERE), strict=True):
        metric = {item.metric: item for item in record.metrics}
        assert metric["latency_p50_ms"].value > 0
        assert metric["host_sentinel_ms"].value > 0
        assert metric["output_rel_l2"].absent_reason == said, "the later run does not die again"
        assert (why in record.provenance["notes"]) is (said == why)


def test_ctrl_c_keeps_what_is_finished_and_resume_does_the_rest(workspace, tiny_plan, run_plan):
    path = tiny_plan(repeats=3, batches="1")
    with pytest.raises(KeyboardInterrupt):
        run_plan(path, heard=StopAt(events.RunFinished, 2))
    assert query(workspace, "SELECT count(*) AS n FROM runs")[0]["n"] == 2

    outcome = run_plan(path, resume=True)
    assert len(outcome.records) == 3
    rows = query(workspace, "SELECT case_key, repeat, count(*) AS n FROM runs GROUP BY ALL")
    assert len(rows) == 3
    assert {row["n"] for row in rows} == {1}
    assert query(workspace, "SELECT count(DISTINCT session_id) AS n FROM runs")[0]["n"] == 1
    with pytest.raises(UsageError, match="no unfinished session"):
        run_plan(path, resume=True)


def test_a_resumed_session_does_what_it_set_out_to_do_and_no_more(workspace, tiny_plan, run_plan):
    path = tiny_plan(repeats=1, batches="1, 2, 12")
    with pytest.raises(KeyboardInterrupt):
        run_plan(path, heard=StopAt(events.RunFinished), cases=("b1", "b12"), inject={"b1": 1.0})
    outcome = run_plan(path, resume=True)
    assert sorted(record.case_key[-3:] for record in outcome.records) == ["/b1", "b12"]
    assert {bool(record.provenance["injected"]) for record in outcome.records} == {True}


def test_a_store_that_cannot_be_written_is_found_before_anything_is_measured(workspace, tiny_plan, run_plan):
    workspace.store.write_bytes(b"not a database" * 1000)
    heard: list[events.Event] = []
    with pytest.raises(StorageError, match=r"store\.duckdb"):
        run_plan(tiny_plan(), heard=heard)
    assert heard == []


def test_options_that_no_backend_knows_leave_no_session_behind(workspace, tiny_plan, run_plan):
    path = tiny_plan(extra="options = { thread = 2 }")
    with pytest.raises(PlanError, match="did you mean 'threads'"):
        run_plan(path)
    assert list(workspace.work.glob("*/session.json")) == []


def test_logs_of_good_runs_are_not_kept(plain):
    assert list(plain[0].work.glob("*/runs/*")) == []


def test_a_changed_plan_is_not_resumed(tiny_plan, run_plan):
    path = tiny_plan(repeats=2)
    with pytest.raises(KeyboardInterrupt):
        run_plan(path, heard=StopAt(events.Started))
    path.write_text(path.read_text().replace("duration_s = 0.1", "duration_s = 0.2"))
    with pytest.raises(UsageError, match="has changed since"):
        run_plan(path, resume=True)


def test_a_full_disk_ends_the_session_and_keeps_the_finished_runs(workspace, tiny_plan, run_plan, monkeypatch):
    real_write = bundle.write
    written = []

    def fill_up(spool, record, tables):
        if len(written) == 1:
            raise DiskFullError(f"no space left while writing run {record.run_id}")
        written.append(record.run_id)
        return real_write(spool, record, tables)

    monkeypatch.setattr(session.bundle, "write", fill_up)
    with pytest.raises(DiskFullError):
        run_plan(tiny_plan(batches="1"))
    assert len(written) == 1
    assert [str(row["run_id"]) for row in query(workspace, "SELECT run_id FROM runs")] == written


def test_two_sessions_do_not_measure_at_once(workspace, tiny_plan, run_plan):
    with (
        workspace.lock("session", wait_s=0, busy="held"),
        pytest.raises(StoreLockedError, match="another session measures"),
    ):
        run_plan(tiny_plan())


def test_an_injected_delay_is_measured_and_keeps_the_series(plain, tiny_plan, run_plan):
    path = tiny_plan(repeats=1, batches="1")
    before = next(record for record in plain[1].records if record.case_key.endswith("/b1"))
    slowed = run_plan(path, inject={"fp32/b1": 3.0}).records[0]

    def median_ms(record):
        return next(item.value for item in record.metrics if item.metric == "latency_p50_ms")

    assert median_ms(slowed) > median_ms(before) + 2.5
    assert slowed.identity == before.identity
    assert slowed.provenance["injected"] == {"inject_delay_ms": 3.0}
    with pytest.raises(UsageError, match="fits no case"):
        run_plan(path, inject={"nothing": 1.0})


def test_a_run_that_does_not_end_is_stopped_and_its_logs_are_kept(workspace, tiny_plan, run_plan):
    path = tiny_plan(repeats=1, batches="1")
    path.write_text(
        path.read_text().replace("duration_s = 0.1", "duration_s = 30").replace("timeout_s = 60", "timeout_s = 0.5")
    )
    record = run_plan(path).records[0]
    assert record.failure is not None
    assert record.failure.code == "timeout"
    assert "0.5 s" in record.failure.message
    kept = list(workspace.work.glob("*/runs/*/worker.stderr.log"))
    assert len(kept) == 1
    assert str(kept[0].parent) in str(record.failure.remedy)


def test_a_fixed_batch_that_does_not_fit_says_what_to_do(tmp_path, tiny_plan, run_plan):
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "fixed.onnx")
    outcome = run_plan(tiny_plan(source='path = "fixed.onnx"', batches="1, 2", repeats=1))
    failures = failed_cases(outcome.records)
    assert [failure.code for failure in failures.values()] == ["shape_outside_profile"]
    assert "batches = [2]" in str(next(iter(failures.values())).remedy)
    assert sum(record.status is RunStatus.OK for record in outcome.records) == 1


def test_identity_ignores_what_only_a_test_sets(plain):
    record = plain[1].records[0]
    assert dataclasses.asdict(record.identity)["model_sha256"] is None
    assert "inject_delay_ms" not in record.identity.options
    assert record.identity.options["duration_ms"] == 100
