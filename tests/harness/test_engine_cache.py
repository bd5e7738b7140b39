"""The engine cache: one builder at a time, nothing half after a kill, and a word when something was broken."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import threading

import pytest

from enginewatch_db.errors import BackendError, DiskFullError
from enginewatch_db.model import EngineRecord, Failure
from enginewatch_harness import session_builds
from enginewatch_harness.backends.base import Availability, Job
from enginewatch_harness.engine_cache import (
    META,
    State,
    entries,
    file_sha256,
    folder_name,
    keep_beside,
    lookup,
    obtain,
    remove,
    size_of,
)
from enginewatch_harness.matrix import Case
from enginewatch_harness.plan_file import ModelTable
from enginewatch_harness.prepare import Prepared
from enginewatch_harness.session_builds import Builds
from enginewatch_harness.wire import WorkResult

CASE = "net/onnxruntime/fp32/b1"
KEY = "01234567-89ab-8cde-8000-000000000000"


def build(target, content: bytes = b"an engine") -> EngineRecord:
    target.write_bytes(content)
    return EngineRecord(
        engine_key="",
        engine_sha256=file_sha256(target),
        path="",
        size_bytes=len(content),
        cached=False,
        build_time_s=2.0,
    )


def test_builds_of_one_key_lie_apart_and_the_first_one_where_it_always_did(workspace):
    first, path = obtain(workspace, KEY, build)
    second, other = obtain(workspace, KEY, lambda target: build(target, b"another"), build_number=1)
    assert (path.parent.name, other.parent.name) == (KEY, f"{KEY}.b1")
    assert (first.build_number, second.build_number) == (0, 1)
    assert second.path == f"engines/{KEY}.b1/engine"
    again, _ = obtain(workspace, KEY, pytest.fail, build_number=1)
    assert (again.cached, again.build_time_s, again.engine_sha256) == (True, None, second.engine_sha256)


def test_a_folder_of_before_there_were_more_builds_is_read(workspace):
    obtain(workspace, KEY, build)
    meta = workspace.engines / KEY / META
    old = json.loads(meta.read_text())
    names = ("engine_key", "engine_sha256", "path", "size_bytes", "cached", "build_time_s")
    meta.write_text(json.dumps({name: old[name] for name in names}))
    found = lookup(workspace, KEY)
    assert found is not None
    assert found[0].build_number == 0


def test_of_two_builders_the_second_waits_and_finds_the_engine(workspace):
    building, go_on = threading.Event(), threading.Event()
    built: list[str] = []

    def slow(target):
        building.set()
        assert go_on.wait(20)
        built.append("slow")
        return build(target)

    def quick(target):
        built.append("quick")
        return build(target)

    results = []
    one = threading.Thread(target=lambda: results.append(obtain(workspace, KEY, slow)))
    one.start()
    assert building.wait(20)
    two = threading.Thread(target=lambda: results.append(obtain(workspace, KEY, quick)))
    two.start()
    go_on.set()
    one.join(20)
    two.join(20)
    assert built == ["slow"]
    assert sorted(record.cached for record, _ in results) == [False, True]


def test_a_killed_builder_leaves_nothing_half_and_the_next_one_clears_up(workspace):
    child = os.fork()
    if child == 0:

        def die(target):
            target.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

        obtain(workspace, KEY, die)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert lookup(workspace, KEY) is None
    assert [(entry.state, entry.why) for entry in entries(workspace)] == [
        (State.ORPHAN, "half a build: its builder died")
    ]
    obtain(workspace, KEY, build)
    assert [entry.state for entry in entries(workspace)] == [State.OK]


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (lambda folder: (folder / META).write_text("{"), "engine.json cannot be read"),
        (lambda folder: (folder / "engine").write_bytes(b"an"), "2 bytes, 9 were built"),
        (lambda folder: (folder / "engine").write_bytes(b"An engine"), "checksum is not"),
        (lambda folder: (folder / "engine").unlink(), "the engine file is gone"),
        (lambda folder: (folder / META).unlink(), "it has no engine.json"),
    ],
)
def test_a_broken_engine_is_built_again_and_said_to_be(workspace, break_it, why):
    obtain(workspace, KEY, build)
    break_it(workspace.engines / KEY)
    notes: list[str] = []
    record, _ = obtain(workspace, KEY, build, note=notes.append)
    assert not record.cached
    assert len(notes) == 1
    assert why in notes[0]


def test_a_failed_build_leaves_nothing(workspace):
    def fail(target):
        target.write_bytes(b"half")
        raise BackendError("no", code="build_failed")

    with pytest.raises(BackendError):
        obtain(workspace, KEY, fail)
    assert entries(workspace) == ()


def test_a_full_disk_is_said_with_the_place_and_the_remedy(workspace):
    def full(target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=KEY) as error:
        obtain(workspace, KEY, full)
    assert "engines prune" in str(error.value.remedy)
    assert entries(workspace) == ()


def test_logs_and_the_timing_cache_are_kept_beside_the_engine(workspace, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "trtexec-build.stdout.log").write_text("[I] Engine built")
    (scratch / "worker.stderr.log").write_text("")
    (scratch / "job.json").write_text("{}")
    cache = tmp_path / "tactics.cache"
    cache.write_bytes(b"tactics")

    def builder(target):
        keep_beside(target, scratch, cache)
        return build(target)

    _, path = obtain(workspace, KEY, builder)
    names = {item.name for item in path.parent.iterdir()}
    assert names == {"engine", META, "build.trtexec-build.stdout.log", "timing.cache"}


def test_an_engine_that_is_a_folder_is_checked_by_all_its_files(workspace):
    def builder(target):
        (target / "rank").mkdir(parents=True)
        (target / "config.json").write_text("{}")
        (target / "rank" / "0.engine").write_bytes(b"weights")
        return EngineRecord(
            engine_key="", engine_sha256=file_sha256(target), path="", size_bytes=size_of(target), cached=False
        )

    _, path = obtain(workspace, KEY, builder)
    assert [entry.state for entry in entries(workspace)] == [State.OK]
    (path / "rank" / "0.engine").write_bytes(b"Weights")
    assert [entry.state for entry in entries(workspace)] == [State.ALTERED]
    assert [entry.state for entry in entries(workspace, hashed=False)] == [State.OK]


def test_what_a_builder_has_is_not_removed(workspace):
    _, path = obtain(workspace, KEY, build)
    with workspace.lock(f"engines/{folder_name(KEY)}", wait_s=0, busy="held"):
        assert not remove(workspace, path.parent)
    assert remove(workspace, path.parent)
    assert not remove(workspace, path.parent)
    assert entries(workspace) == ()


@pytest.fixture
def builds(workspace, tmp_path, monkeypatch):
    """The builds of a session with one case; each worker brings the next of the given results."""

    def make(*results: WorkResult, per_case: int = 2) -> tuple[Builds, dict[str, Prepared]]:
        left = list(results)

        def run_worker(folder, order, **_):
            found = left.pop(0)
            if found.engine is not None:
                order.engine_path.write_bytes(found.engine.details["content"])
            return found, None

        def scratch(name):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            return folder

        monkeypatch.setattr(session_builds, "run_worker", run_worker)
        case = Case(
            key=CASE,
            workload="net",
            model=ModelTable(name="net", generate="convnet_tiny"),
            backend="onnxruntime",
            precision="fp32",
            warmup_s=0,
            duration_s=1,
            batch=1,
        )
        job = Job(
            case_key=CASE,
            workload="net",
            model_path=tmp_path / "net.onnx",
            model_name="net",
            precision="fp32",
            warmup_s=0,
            duration_s=1,
            seed=1,
        )
        item = Prepared(
            case=case,
            availability=Availability(available=True, version="1.2.3"),
            device="CPU",
            model_sha256="ab" * 32,
            job=job,
            engine_key=KEY,
        )
        found = Builds(workspace=workspace, listen=lambda _: None, scratch=scratch, per_case=per_case)
        return found, {CASE: item}

    return make


def engine(content: bytes) -> WorkResult:
    sha256 = hashlib.sha256(content).hexdigest()
    record = EngineRecord(
        engine_key="",
        engine_sha256=sha256,
        path="",
        size_bytes=len(content),
        cached=False,
        details={"content": content},
    )
    return WorkResult(engine=record)


def failure(code: str) -> WorkResult:
    return WorkResult(failure=Failure(code=code, message=f"it is {code}"))


def test_a_case_has_as_many_engines_as_builds_and_they_say_what_they_are(builds):
    found, ready = builds(engine(b"one"), engine(b"two"))
    found.build_all(ready)
    records = [found.engine(ready[CASE], repeat)[0] for repeat in range(4)]
    assert [record.build_number for record in records] == [0, 1, 0, 1]
    assert (records[0].model, records[0].tool_version, records[0].device) == ("net", "1.2.3", "CPU")
    assert records[0].built_at is not None
    assert found.broken == {}


def test_a_second_build_that_fails_costs_its_own_runs_only(builds):
    found, ready = builds(engine(b"one"), failure("build_failed"))
    found.build_all(ready)
    assert list(found.broken) == [(CASE, 1)]
    assert found.engine(ready[CASE], 2)[0] is not None


def test_what_cannot_be_built_is_tried_once(builds):
    found, ready = builds(failure("unsupported_operator"), per_case=3)
    found.build_all(ready)
    assert [item.code for item in found.broken.values()] == ["unsupported_operator"] * 3


def test_a_full_disk_ends_the_session(builds):
    found, ready = builds(failure("disk_full"))
    with pytest.raises(DiskFullError):
        found.build_all(ready)
