"""``enginewatch nsys``: tables for people, JSON for machines, a scrubbed file, and the folder of the scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from enginewatch_db.errors import BackendError, MeasurementError, NotAvailableError
from enginewatch_harness.cli import enginewatch


def run(*words):
    found = CliRunner().invoke(enginewatch, ["nsys", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_a_summary_for_people(launches):
    found = run("summarize", launches(), "--inferences", 50)
    assert "for 50 inferences, 2 kernels each" in found.stdout
    assert "launches: 100, median 4 µs in the call, 72 µs until its first kernel" in found.stdout
    assert "void gemm<float, 128>" in found.stdout
    assert "memcpy_pageable: 50 copies" in found.stdout


def test_a_summary_for_machines(launches):
    found = json.loads(run("summarize", launches(), "--json").stdout)
    assert found["summary"]["kernels"][0]["calls"] == 53
    assert found["schema"] == "3.16.1"
    assert found["summary"]["window"]["kernels_per_inference"] is None


def test_a_report_is_exported_first(fake_nsys, tmp_path):
    folder = fake_nsys()
    report = tmp_path / "x.nsys-rep"
    report.write_text(str(folder / "prepared.sqlite"))
    target = tmp_path / "clean.sqlite"
    run("scrub", report, target)
    assert json.loads(run("summarize", target, "--json").stdout)["summary"]["launches"] == 107


def test_nsys_is_asked_too_and_its_tables_are_kept_where_told(fake_nsys, tmp_path):
    findings = "Duration (ns),API Name\n172000,cudaStreamSynchronize\n"
    folder = fake_nsys(csv={"cuda_api_sync": findings, "enginewatch_kernel_sum": "Instances,Name\n1,gone()\n"})
    report = tmp_path / "x.nsys-rep"
    report.write_text(str(folder / "prepared.sqlite"))
    said = run("summarize", report, "--csv", tmp_path / "kept").stderr
    assert "x.nsys-rep: nsys's enginewatch_kernel_sum and we differ on 4 of 4 kernels" in said
    assert "x.nsys-rep: nsys analyze, cuda_api_sync: 1 finding, the longest takes 172 µs, cudaStreamSynchronize" in said
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "analyze_cuda_api_sync.csv",
        "stats_enginewatch_kernel_sum.csv",
    ]
    assert run("summarize", tmp_path / "kept" / "analyze_cuda_api_sync.csv", "--csv", tmp_path).exit_code == 2


def test_a_report_that_cannot_be_exported_says_why(fake_nsys, no_report):
    fake_nsys(exports=False)
    with pytest.raises(BackendError, match=r"could not export .*: cannot import the raw events"):
        run("summarize", no_report)


@pytest.fixture
def no_report(tmp_path):
    path = tmp_path / "x.nsys-rep"
    path.write_text("report")
    return path


def test_without_the_tool_a_report_cannot_be_read(no_nsys, no_report):
    with pytest.raises(NotAvailableError, match="nsys was not found"):
        run("summarize", no_report)


def test_a_file_is_not_scrubbed_onto_itself(launches):
    path = launches()
    before = path.read_bytes()
    assert run("scrub", path, path).exit_code == 2
    assert path.read_bytes() == before


def test_nothing_on_the_gpu(export):
    assert "no work on a GPU" in run("summarize", export().close()).stdout


def test_the_folder_holds_the_scripts():
    folder = Path(run("reports").stdout.strip())
    assert {path.name for path in folder.glob("*.py")} == {"enginewatch_gpu_idle.py", "enginewatch_kernel_sum.py"}


def test_the_tools_own_tables_are_read(tmp_path):
    file = Path(__file__).parents[2] / "data" / "harness" / "nsys" / "console_2022.4_usec.txt"
    kernels, _, ranges = json.loads(run("summarize", file, "--json").stdout)
    assert kernels["rows"][0]["total_time_ns"] == 5_300_000
    assert ranges["skipped"]
    found = run("summarize", file).stdout
    assert "cuda_gpu_kern_sum" in found
    assert "5300000" in found
    (tmp_path / "x.csv").write_text("nothing")
    with pytest.raises(MeasurementError, match="has no table of nsys stats"):
        run("summarize", tmp_path / "x.csv")
