"""nsys's own statistics against ours, and the findings of its rules: from files of 2022.4, and made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import MeasurementError
from enginewatch_harness.nsys.command import Nsys, analyze_command, stats_command
from enginewatch_harness.nsys.events import KERNEL, GpuWork, Recording
from enginewatch_harness.nsys.scrub import Scrubber
from enginewatch_harness.nsys.sqlite import read_recording
from enginewatch_harness.nsys.stats_csv import StatsReport, parse_stats
from enginewatch_harness.nsys.told import findings, keep_csv, kernel_differences

DATA = Path(__file__).parents[2] / "data" / "harness" / "nsys"
USED = "Row#,In-Use (%),Duration (ns),Start (ns),PID,Device ID,Context ID\n1,16.2,1157001,5000010000,8111,0,0\n"


def test_a_real_sum_of_the_same_file_is_ours(launches):
    recording = read_recording(launches())
    real = parse_stats((DATA / "stats_gpukernsum.csv").read_text())
    assert kernel_differences("cuda_gpu_kern_sum", real, recording) == []
    last = [item for item in recording.work if item.kind == KERNEL][-1]
    fewer = dataclasses.replace(recording, work=tuple(item for item in recording.work if item is not last))
    (note,) = kernel_differences("cuda_gpu_kern_sum", real, fewer)
    assert "differ on 1 of 3 kernels: void relu<float>(float*) took 1060 µs in 53 calls there, 1040 µs in 52" in note
    nothing = dataclasses.replace(recording, work=())
    assert "on 3 of 3 kernels" in kernel_differences("x", real, nothing)[0]
    assert kernel_differences("x", (), recording) == []


@pytest.mark.parametrize(("calls", "time_ns", "off_ns", "differs"), [
    (2, 10, 2, False), (2, 10, 3, True), (1, 10**9, 1000, False), (1, 10**9, 1010, True), (2, 10, -3, True),
])  # fmt: skip
def test_rounding_is_one_ns_a_call_and_a_millionth(calls, time_ns, off_ns, differs):
    work = tuple(GpuWork(kind=KERNEL, name="k", start_ns=0, end_ns=time_ns) for _ in range(calls))
    row = {"name": "k", "instances": float(calls), "total_time_ns": float(calls * time_ns + off_ns)}
    told = kernel_differences("x", [StatsReport(rows=(row,))], Recording(work=work, calls=(), source="nsys"))
    assert bool(told) is differs


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6)), min_size=1), st.integers(-90, 90), st.data())
def test_what_differs_beyond_rounding_is_said(made, off_ns, data):
    work = tuple(GpuWork(kind=KERNEL, name=name, start_ns=5, end_ns=5 + time_ns) for name, time_ns in made)
    rows = [{"name": name, "instances": 1.0, "total_time_ns": float(time_ns)} for name, time_ns in made]
    wrong = data.draw(st.sampled_from(rows))
    wrong["total_time_ns"] += off_ns
    same = [row["total_time_ns"] for row in rows if row["name"] == wrong["name"]]
    told = kernel_differences("x", [StatsReport(rows=tuple(rows))], Recording(work=work, calls=(), source="nsys"))
    # One ns for each call, and a millionth of the sum.
    assert (told == []) == (abs(off_ns) <= len(same) + 1e-6 * abs(sum(same)))


def test_findings_are_counted():
    assert findings("gpu_time_util", parse_stats(USED)) == [
        "nsys analyze, gpu_time_util: 1 finding, the longest takes 1157 µs, the GPU in use 16.2 % at the least"
    ]
    assert findings("gpu_gaps", parse_stats("")) == []


def test_an_sqlite_file_is_not_exported_again():
    """The real one says: cannot force export of SQLite data from .sqlite input file."""
    nsys = Nsys(path="nsys", version=(2022, 4, 2))
    for command in (stats_command, analyze_command):
        assert "--force-export=true" not in command(nsys, Path("x.sqlite"), output=Path("o"))
        assert "--force-export=true" in command(nsys, Path("x.nsys-rep"), output=Path("o"))


def test_kept_files_are_scrubbed_and_say_something(tmp_path):
    source, target = tmp_path / "from", tmp_path / "to" / "here"
    source.mkdir()
    (source / "stats_a.csv").write_text("Name\n/blocks/0/conv of alice\n")
    (source / "stats_b.csv").write_text("\n")
    (source / "stats.stdout.log").write_text("Processing")
    assert keep_csv(source, target, Scrubber(["alice"])) == (target / "stats_a.csv",)
    assert (target / "stats_a.csv").read_text() == "Name\n/blocks/0/conv of <private>\n"
    with pytest.raises(MeasurementError, match="cannot be written"):
        keep_csv(source, target / "stats_a.csv", Scrubber([]))
