"""The CSV of ``nsys stats``: real files of 2022.4, and the words of other versions."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_harness.nsys import stats_csv
from enginewatch_harness.nsys.sqlite import read_recording
from enginewatch_harness.nsys.stats_csv import column_of, number_of, operation_of, parse_stats
from enginewatch_harness.nsys.summary import summarize

DATA = Path(__file__).parents[2] / "data" / "harness" / "nsys"


def test_the_tool_and_we_sum_the_same_file_alike(launches):
    """The tool looked at the file that the fixture makes."""
    ours = summarize(read_recording(launches()))
    (kernels,) = parse_stats((DATA / "stats_gpukernsum.csv").read_text())
    assert [(row["name"], row["total_time_ns"], row["instances"], row["med_ns"]) for row in kernels.rows] == [
        (row.name, row.total_ns, row.calls, row.median_ns) for row in ours.kernels
    ]
    assert [row["time_pct"] for row in kernels.rows] == [round(row.time_pct, 1) for row in ours.kernels]
    (calls,) = parse_stats((DATA / "stats_cudaapisum.csv").read_text())
    theirs = {row["name"]: (row["num_calls"], row["total_time_ns"]) for row in calls.rows}
    for row in ours.calls:
        # Ours begin with the first kernel, or the call that launched it.
        assert row.calls == theirs[row.name][0]
        assert row.total_ns == theirs[row.name][1]


def test_sizes_and_old_operations_are_read():
    (sizes,) = parse_stats((DATA / "stats_gpumemsizesum.csv").read_text(), "cuda_gpu_mem_size_sum")
    assert sizes.name == "cuda_gpu_mem_size_sum"
    assert [(row["operation"], row["total_bytes"]) for row in sizes.rows] == [
        ("[CUDA memcpy Device-to-Host]", pytest.approx(2_171_000)),
        ("[CUDA memcpy Host-to-Device]", pytest.approx(1_049_000)),
    ]


def test_console_output_has_several_reports_and_skipped_ones():
    kernels, copies, ranges = parse_stats((DATA / "console_2022.4_usec.txt").read_text())
    assert (kernels.name, copies.name, ranges.name) == ("cuda_gpu_kern_sum", "cuda_gpu_mem_time_sum", "nvtx_sum")
    assert kernels.rows[0]["total_time_ns"] == 5_300_000
    assert copies.rows[0]["avg_ns"] == 40_000
    assert (ranges.rows, ranges.skipped) == ((), "syn.sqlite does not contain NV Tools Extension (NVTX) data.")


NEW = """Generating SQLite file report.sqlite from report.nsys-rep
Processing [report.sqlite] with [/opt/nvidia/reports/cuda_gpu_mem_time_sum.py]...

 ** CUDA GPU MemOps Summary (by Time) (cuda_gpu_mem_time_sum):

Time (%),Total Time (us),Count,Avg (us),Med (us),Min (us),Max (us),StdDev (us),Operation
98.6,"2,120.000",53,40.000,40.000,40.000,40.000,0.0,[CUDA memcpy Device-to-Host]

Processing [report.sqlite] with [/opt/nvidia/reports/cuda_gpu_kern_sum.py]...
SKIPPED: report.sqlite does not contain CUDA kernel data.
"""


def test_newer_words_units_and_separators():
    copies, kernels = parse_stats(NEW.replace("\n", "\r\n"))
    assert (copies.name, copies.title) == ("cuda_gpu_mem_time_sum", "CUDA GPU MemOps Summary (by Time)")
    assert copies.rows[0]["total_time_ns"] == 2_120_000
    assert copies.rows[0]["operation"] == "[CUDA memcpy Device-to-Host]"
    assert kernels.skipped == "report.sqlite does not contain CUDA kernel data."


def test_odd_cells():
    assert column_of("Total Time (ns)") == ("total_time_ns", 1.0)
    assert column_of("Name") == ("name", None)
    assert number_of("12,34") is None
    assert operation_of("[CUDA Unified Memory memcpy HtoD]") == "[CUDA Unified Memory memcpy Host-to-Device]"
    assert operation_of("[CUDA memset]") == "[CUDA memset]"
    assert doctest.testmod(stats_csv).failed == 0


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_nothing_makes_it_fail(text):
    for report in parse_stats(text):
        assert report.rows or report.skipped or report.rows == ()


@settings(max_examples=50, deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_separators_change_no_number(value):
    assert number_of(f"{value:,}") == number_of(str(value)) == value
