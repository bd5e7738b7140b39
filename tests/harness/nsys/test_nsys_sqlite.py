"""Exports of several versions give the same summary; what is missing is said, and never guessed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.nsys.as_text import as_json
from enginewatch_harness.nsys.profiled import DIAGNOSTICS, profiled
from enginewatch_harness.nsys.rules import hints
from enginewatch_harness.nsys.scrub import KEPT, Scrubber, scrub_report
from enginewatch_harness.nsys.sqlite import read_recording
from enginewatch_harness.nsys.summary import CallRow, summarize
from enginewatch_harness.nsys.tables import quoted

VERSIONS = {"2.9.1": "2022.2.1.31", "3.16.1": "2024.6.2.225", "3.25.0": "2026.2.1.106"}
WINDOW_NS = 49 * 200_000 + 130_000  # from the first counted gemm to the last relu
BUSY_NS = 49 * 150_000 + 120_000


@pytest.mark.parametrize("schema", VERSIONS)
def test_the_summary_is_exact_in_every_version(launches, schema):
    recording = read_recording(launches(schema=schema))
    found = summarize(recording, 50)
    assert (recording.version, recording.schema, recording.notes) == (VERSIONS[schema], schema, ())
    assert (found.window.inferences, found.window.kernels_per_inference, found.window.why) == (50, 2, None)
    assert found.window.end_ns - found.window.start_ns == WINDOW_NS
    assert [(row.name, row.calls, row.median_ns, row.grid, row.block) for row in found.kernels] == [
        ("void gemm<float, 128>(float const*, float*)", 50, 100_000, "8x1x1", "128x1x1"),
        ("void relu<float>(float*)", 50, 20_000, "2x1x1", "128x1x1"),
    ]
    assert found.kernels[0].time_pct == pytest.approx(100 * 5 / 6)
    assert found.busy_ns == BUSY_NS
    assert found.idle_pct == pytest.approx(100 * (WINDOW_NS - BUSY_NS) / WINDOW_NS)
    assert (found.launches, found.launch_api_p50_us, found.launch_latency_p50_us) == (100, 4.0, 72.0)
    assert found.memcpy_overlap_pct == pytest.approx(100 * 50 * 10_000 / (49 * 40_000 + 10_000))
    (copies,) = found.copies
    assert (copies.kind, copies.count, copies.size_bytes, copies.pageable) == (
        "copy device to host",
        50,
        50 * 40_960,
        50,
    )
    assert copies.gib_s == pytest.approx(40_960 / 40_000 * 1e9 / 2**30)
    assert found.streams == {"device 0 stream 14": 49 * 40_000 + 10_000, "device 0 stream 7": 50 * 120_000}
    assert found.gaps[0].duration_ns == 40_000  # 180 µs to 220 µs after the start of an inference
    assert (found.gaps[0].before, found.gaps[0].after) == ("device to host", found.kernels[0].name)


def test_times_count_from_the_first_event(launches):
    recording = read_recording(launches())
    assert min(item.start_ns for item in recording.work) == 10_000
    assert recording.calls[0].start_ns == 0
    assert recording.calls[0].name == "cudaMemcpy"


def test_without_a_number_of_inferences_all_counts_and_no_kernel_is_divided(launches):
    found = summarize(read_recording(launches()))
    assert found.window.kernels_per_inference is None
    assert "unknown" in found.window.why
    assert sum(row.calls for row in found.kernels) == 107


def test_uneven_kernels_are_not_divided(export):
    made = export()
    for index, count in enumerate((51, 64, 58)):
        for at in range(count):
            made.kernel(made.base + 1000 * at + index, made.base + 1000 * at + index + 100, 1, at, grid=index)
    found = summarize(read_recording(made.close()), 50)
    assert found.window.kernels_per_inference is None
    assert "equal numbers for 50" in found.window.why


def graphs(made, count=52):
    """Capture two kernels in two layers, then launch the graph again and again."""
    node = {"start": 0, "end": 0, "globalTid": made.tid, "nameId": 13}
    at = made.base
    made.add("NVTX_EVENTS", start=at, end=None, eventType=75, text="TensorRT", domainId=5, globalTid=made.tid)
    made.add("NVTX_EVENTS", start=at, end=None, eventType=75, text="enginewatch", domainId=6, globalTid=made.tid)
    for text, key, start, end, domain in (
        ("inferences", None, at, at + 90_000_000, 6),
        (None, 12, at + 100, at + 900, 5),
        (None, 9, at + 200, at + 400, 5),
        (None, 14, at + 500, at + 700, 5),
    ):
        made.add(
            "NVTX_EVENTS",
            start=start,
            end=end,
            eventType=59,
            text=text,
            textId=key,
            domainId=domain,
            globalTid=made.tid,
        )
    for number, start, original in ((21, at + 300, None), (22, at + 600, None), (31, at + 950, 21), (32, at + 951, 22)):
        made.add(
            "CUDA_GRAPH_NODE_EVENTS",
            **{**node, "start": start, "end": start},
            graphNodeId=number,
            originalGraphNodeId=original,
        )
    for index in range(count):
        start = at + 10_000 + index * 100_000
        made.call(start, start + 7_000, 8, 500 + index)
        made.kernel(start + 20_000, start + 60_000, 1, 500 + index, node=31)
        made.kernel(start + 60_000, start + 70_000, 3, 500 + index, node=32)


def test_kernels_of_a_graph_belong_to_the_layers_that_were_captured(export):
    made = export()
    graphs(made)
    recording = read_recording(made.close())
    found = summarize(recording, 50)
    assert [(row.name.split("<")[0], row.layer, row.calls) for row in found.kernels] == [
        ("void gemm", "conv1 + relu1", 50),
        ("void relu", "relu2", 50),
    ]
    assert all(item.in_graph for item in recording.work)
    assert (found.launches, found.launch_api_p50_us, found.launch_latency_p50_us) == (50, 7.0, 20.0)
    assert found.window.kernels_per_inference == 2


def test_plain_kernels_belong_to_the_range_around_their_launch(export):
    made = export("3.25.0")
    for index in range(3):
        at = made.base + index * 10_000
        made.add("NVTX_EVENTS", start=at, end=at + 900, eventType=59, textId=12, globalTid=made.tid)
        made.add("NVTX_EVENTS", start=at + 100, end=at + 300, eventType=59, textId=9, globalTid=made.tid)
        made.add("NVTX_EVENTS", start=at + 120, end=at + 250, eventType=59, text="other", globalTid=made.tid + 1)
        made.call(at + 150, at + 200, 5, index)
        made.kernel(at + 5_000, at + 6_000, 1, index)
        made.call(at + 400, at + 450, 5, 100 + index)
        made.kernel(at + 6_000, at + 6_500, 3, 100 + index)
    found = summarize(read_recording(made.close()))
    assert [row.layer for row in found.kernels] == ["conv1 + relu1", None]


def test_our_own_ranges_are_no_layers(export):
    made = export()
    made.add("NVTX_EVENTS", start=0, end=None, eventType=75, text="enginewatch", domainId=6, globalTid=made.tid)
    made.add(
        "NVTX_EVENTS",
        start=made.base,
        end=made.base + 9_000,
        eventType=59,
        text="inferences",
        domainId=6,
        globalTid=made.tid,
    )
    made.call(made.base + 150, made.base + 200, 5, 1)
    made.kernel(made.base + 5_000, made.base + 6_000, 1, 1)
    assert [item.layer for item in read_recording(made.close()).work] == [None]


def test_two_processes_may_use_the_same_correlation(export):
    made = export()
    other = made.pid + (1 << 24)
    made.call(made.base, made.base + 1_000, 5, 1)
    made.kernel(made.base + 5_000, made.base + 6_000, 1, 1)
    made.add(
        "CUPTI_ACTIVITY_KIND_RUNTIME",
        start=made.base + 2_000,
        end=made.base + 9_000,
        globalTid=other + 5,
        correlationId=1,
        nameId=5,
    )
    found = summarize(read_recording(made.close()))
    assert (found.launches, found.launch_api_p50_us) == (1, 1.0)


def test_graphs_traced_as_a_whole_are_no_kernels(export):
    made = export()
    made.kernel(made.base, made.base + 500, 10, 1)
    for index in range(53):
        at = made.base + 10_000 + index * 100_000
        made.call(at, at + 7_000, 8, 500 + index)
        made.add(
            "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
            start=at + 20_000,
            end=at + 70_000,
            streamId=7,
            correlationId=500 + index,
            globalPid=made.pid,
            graphId=1,
        )
    recording = read_recording(made.close())
    found = profiled(recording, 50, Scrubber([]))
    values = {metric.metric: metric for metric in found.metrics}
    assert "kernels" not in found.tables
    assert any("--cuda-graph-trace=node" in note for note in found.notes)
    assert values["profile_kernels_per_inference"].value is None
    assert "as a whole" in values["profile_kernels_per_inference"].absent_reason
    assert values["profile_gpu_idle_pct"].value == pytest.approx(100 * 49 * 50_000 / (49 * 100_000 + 50_000))
    assert values["profile_launch_latency_p50_us"].value == 20.0


def test_a_table_without_its_columns_counts_as_absent(launches):
    path = launches()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE CUPTI_ACTIVITY_KIND_MEMCPY")
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_RUNTIME DROP COLUMN nameId")
        connection.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN gridZ")
        connection.execute("DROP TABLE StringIds")
    connection.close()
    found = profiled(read_recording(path), None, Scrubber([]))
    reasons = {metric.metric: metric.absent_reason for metric in found.metrics}
    assert reasons["profile_memcpy_overlap_pct"] == "nothing was copied"
    assert reasons["profile_launch_api_p50_us"] == "no API call that launched this work was recorded"
    assert found.tables["kernels"]["grid"].to_pylist() == [None]
    assert found.tables["kernels"]["name"].to_pylist() == ["(unnamed)"]


def test_a_report_without_gpu_work_makes_every_metric_absent(export):
    found = profiled(read_recording(export().close()), 50, Scrubber([]))
    assert {metric.metric for metric in found.metrics if metric.absent_reason} == set(DIAGNOSTICS)
    assert found.tables == {}


@pytest.mark.parametrize("content", [b"", b"not a database" * 99, None])
def test_what_is_no_export_is_refused(tmp_path, content):
    path = tmp_path / "x.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MeasurementError) as caught:
        read_recording(path)
    assert caught.value.code == "results_damaged"


def test_hints_name_what_holds_the_inference_back(launches):
    recording = read_recording(launches())
    found = {hint.code: hint.words for hint in hints(recording, summarize(recording, 50))}
    assert found["memcpy_pageable"].startswith("50 copies from or to pageable host memory, 2 ms")
    assert found["gpu_gaps"].startswith("the GPU idles up to 0.04 ms at a time")
    assert "memcpy_sync" not in found  # the upload came before
    assert "gpu_low_use" not in found
    assert "api_sync" not in found  # one for each inference
    summary = summarize(recording, 50)
    waits = CallRow(name="cudaStreamSynchronize", calls=100, total_ns=9_000_000, median_ns=90_000, max_ns=90_000)
    more = {hint.code: hint.words for hint in hints(recording, replace(summary, calls=(waits,)))}
    assert more["api_sync"] == "100 calls that wait for the GPU, 2 for each inference, 9 ms in all"
    idle = {hint.code: hint.words for hint in hints(recording, replace(summary, busy_ns=summary.busy_ns // 4))}
    assert idle["gpu_low_use"] == "work runs on the GPU in only 18.8 % of the time"
    everything = {hint.code for hint in hints(recording, summarize(recording))}
    assert "memcpy_sync" not in everything  # before the first kernel
    assert "api_sync" in everything


@pytest.mark.parametrize("value", ["a", b"\x00", 1.5, 1e400, None, 2**62])
def test_what_is_no_time_is_damage(launches, value):
    path = launches()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE loose AS SELECT * FROM CUPTI_ACTIVITY_KIND_KERNEL")
        connection.execute("DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL")
        connection.execute("ALTER TABLE loose RENAME TO CUPTI_ACTIVITY_KIND_KERNEL")
        connection.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET end = ? WHERE rowid = 5", (value,))
        connection.commit()
    with pytest.raises(MeasurementError, match="the report is damaged") as caught:
        read_recording(path)
    assert caught.value.code == "results_damaged"


def test_whole_numbers_may_be_stored_as_reals(launches):
    path = launches()
    before = read_recording(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE loose (start REAL, end REAL, nameId, correlationId REAL, globalTid)")
        connection.execute(
            "INSERT INTO loose SELECT start, end, nameId, correlationId, globalTid FROM CUPTI_ACTIVITY_KIND_RUNTIME"
        )
        connection.execute("DROP TABLE CUPTI_ACTIVITY_KIND_RUNTIME")
        connection.execute("ALTER TABLE loose RENAME TO CUPTI_ACTIVITY_KIND_RUNTIME")
        connection.commit()
    assert read_recording(path).calls == before.calls


def test_a_graph_without_times_does_not_move_the_others(export):
    made = export()
    made.add("CUPTI_ACTIVITY_KIND_GRAPH_TRACE", start=0, end=0, graphId=1)
    since_1970 = 1_790_000_000_000_000_000
    made.kernel(since_1970, since_1970 + 10, 1, 1)
    (kernel,) = read_recording(made.close()).work
    assert (kernel.start_ns, kernel.end_ns) == (0, 10)


ODD = st.one_of(
    st.none(), st.integers(-3, 40), st.floats(), st.text(max_size=3), st.binary(max_size=3),
    st.sampled_from([2**63 - 1, -(2**63), 75, 59, "1", "/home/" + "me/x", "A=/home/" + "me/secret"]),
)  # fmt: skip
AFFINITIES = st.sampled_from(["", "INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC"])
FUZZED = {**KEPT, "StringIds": ("id", "value"), "PROCESSES": ("name",), "META_DATA_CAPTURE": ("name", "value")}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_types_give_a_summary_or_are_damage(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "x.sqlite"
    tables = data.draw(st.lists(st.sampled_from(sorted(FUZZED)), unique=True, min_size=1, max_size=4))
    tame = data.draw(st.booleans())
    values = st.integers(-3, 40) if tame else ODD
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE META_DATA_EXPORT (name, value)")
        for table in tables:
            columns = FUZZED[table]
            listed = ", ".join(f"{quoted(name)} {data.draw(AFFINITIES)}" for name in columns)
            connection.execute(f"CREATE TABLE {table} ({listed})")
            row = st.tuples(*[values] * len(columns))
            rows = data.draw(st.lists(row, max_size=3))
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        connection.commit()
    with suppress(MeasurementError):
        recording = read_recording(path)
        summary = summarize(recording)
        json.dumps(as_json(recording, summary, Scrubber(["secret"])))
        profiled(recording, 1, Scrubber(["secret"]))
        scrub_report(path, folder / "clean.sqlite")
