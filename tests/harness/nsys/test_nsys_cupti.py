"""CUPTI's records become the same table and metrics as nsys's; a stand-in has the attributes of cupti-python 13.4."""

from __future__ import annotations

import enum
import sys
from types import SimpleNamespace

import pytest

from enginewatch_db.errors import NotAvailableError
from enginewatch_harness.nsys import diagnose as module
from enginewatch_harness.nsys.cupti import CuptiRecorder, load_cupti
from enginewatch_harness.nsys.demangle import demangled
from enginewatch_harness.nsys.profiled import profiled
from enginewatch_harness.nsys.scrub import Scrubber


class ActivityKind(enum.IntEnum):
    MEMCPY = 1
    MEMSET = 2
    DRIVER = 4
    RUNTIME = 5
    CONCURRENT_KERNEL = 10
    GRAPH_TRACE = 51


class CallbackDomain(enum.IntEnum):
    DRIVER_API = 1
    RUNTIME_API = 2


class Cupti(SimpleNamespace):
    """What the recorder uses of the module."""

    ActivityKind, CallbackDomain = ActivityKind, CallbackDomain

    def __init__(self, records, refuses=False):
        super().__init__(records=records, refuses=refuses, enabled=[], flushed=0)

    def activity_register_callbacks(self, requested, completed):
        assert requested()[1] == 0
        self.completed = completed

    def activity_enable(self, kind):
        if self.refuses and self.enabled:
            raise RuntimeError("CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED")
        self.enabled.append(kind)

    def activity_disable(self, kind):
        self.enabled.remove(kind)

    def activity_flush_all(self, flag):
        assert flag == 1
        self.flushed += 1
        self.completed(self.records)

    def get_callback_name(self, domain, cbid):
        return {211: "cudaLaunchKernel_v7000", 307: "cuLaunchKernel"}[cbid]


def records(inferences=50):
    found = []
    for index in range(inferences):
        at, corr = 1_700_000_000_000_000_000 + index * 100_000, 10 + index
        place = {"device_id": 0, "stream_id": 13, "correlation_id": corr, "graph_node_id": 0}
        caller = {"correlation_id": corr, "thread_id": 5, "process_id": 4}
        shape = {f"{what}_{axis}": 1 + (what == "grid") for what in ("grid", "block") for axis in "xyz"}
        found += [
            SimpleNamespace(kind=5, start=at, end=at + 6_000, cbid=211, **caller),
            SimpleNamespace(kind=4, start=at + 1_000, end=at + 5_000, cbid=307, **caller),
            SimpleNamespace(
                kind=10, start=at + 16_000, end=at + 66_000, name="_Z4gemmIfLi128EEvPKT_PS0_", **shape, **place
            ),
            SimpleNamespace(
                kind=1, start=at + 56_000, end=at + 76_000, bytes=4096, copy_kind=2, src_kind=3, dst_kind=1, **place
            ),
            SimpleNamespace(kind=2, start=0, end=0, bytes=8, **place),
            SimpleNamespace(kind=99),
        ]
    return found


def test_records_become_kernels_and_metrics():
    cupti = Cupti(records())
    with CuptiRecorder(cupti) as recorder:
        assert len(cupti.enabled) == 5
    assert (cupti.enabled, cupti.flushed) == ([], 1)
    found = profiled(recorder.recording(), 50, Scrubber([]))
    values = {metric.metric: metric.value for metric in found.metrics}
    assert values == {
        "profile_gpu_idle_pct": pytest.approx(100 * 49 * 40_000 / (49 * 100_000 + 50_000)),
        "profile_kernels_per_inference": 1,
        "profile_launch_api_p50_us": 6.0,  # the outer call, not the driver's inside of it
        "profile_launch_latency_p50_us": 16.0,
        "profile_memcpy_overlap_pct": pytest.approx(100 * 50 * 10_000 / (49 * 20_000 + 10_000)),
    }
    (row,) = found.tables["kernels"].to_pylist()
    assert (row["calls"], row["grid"], row["block"], row["source"]) == (50, "2x2x2", "1x1x1", "cupti")
    assert row["name"] in ("void gemm<float, 128>(float const*, float*)", "_Z4gemmIfLi128EEvPKT_PS0_")
    assert any("50 records came without times" in note for note in found.notes)
    assert any("pageable" in note for note in found.notes)


def test_a_refusal_is_said_and_nothing_stays_on():
    cupti = Cupti([], refuses=True)
    with pytest.raises(NotAvailableError, match="MULTIPLE_SUBSCRIBERS"), CuptiRecorder(cupti):
        pytest.fail("must not begin")
    assert cupti.enabled == []


def test_it_stands_in_for_nsys(no_nsys, monkeypatch, tmp_path):
    class Tool:
        def repeat(self, job, engine, engine_path, context, *, inferences, watch):
            with watch:
                assert inferences == 50

    monkeypatch.setattr(module, "load_cupti", lambda: Cupti(records()))
    order = SimpleNamespace(backend="tensorrt", job=None, engine=None, engine_path=None)
    found = module.diagnose(Tool(), order, SimpleNamespace(work_dir=tmp_path))
    assert found.tables["kernels"]["source"].to_pylist() == ["cupti"]


def test_a_package_that_cannot_load_is_told_from_one_that_is_absent(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name in ("cupti", "cupti.cupti"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    package = tmp_path / "cupti"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cupti.py").write_text("raise OSError('libcupti.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotAvailableError, match="cannot be loaded: libcupti"):
        load_cupti()
    sys.modules.pop("cupti", None)


def test_names_of_the_linker_become_readable_where_they_can():
    assert demangled("plain_c_name") == "plain_c_name"
    assert demangled("_Z") == "_Z"
    assert demangled("_Z3fooi") in ("foo(int)", "_Z3fooi")
