"""Command lines by version, what the tool says of itself, and how it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewatch_db.errors import NotAvailableError
from enginewatch_harness import inventory
from enginewatch_harness.nsys.command import (
    CaptureRange,
    Nsys,
    analyze_command,
    export_command,
    profile_command,
    report_name,
    stats_command,
)
from enginewatch_harness.nsys.find import find_nsys, parse_options, parse_version

OUT = Path("/tmp/out")
NEW = Nsys(path="/opt/nsys", version=(2026, 2, 1))
OLD = Nsys(path="/opt/nsys", version=(2022, 4, 2))


def test_profile_is_light_and_shows_the_kernels_of_graphs():
    found = profile_command(NEW, ["trtexec", "--loadEngine=a"], output=OUT)
    assert found.argv == (
        "/opt/nsys",
        "profile",
        "--trace=cuda,nvtx",
        "--sample=none",
        "--cpuctxsw=none",
        "--cuda-graph-trace=node",
        "--discard-environment=true",
        "--stats=false",
        "--force-overwrite=true",
        "--output=/tmp/out",
        "trtexec",
        "--loadEngine=a",
    )
    assert found.notes == ()


def test_an_option_that_a_version_lacks_is_left_out_with_a_note():
    found = profile_command(OLD, ["true"], output=OUT)
    assert "--cuda-graph-trace=node" in found.argv
    assert not any("environment" in word for word in found.argv)
    assert found.notes == (
        "nsys 2022.4.2 has no --discard-environment: the environment is stored in nsys's report, "
        "which is deleted afterwards",
    )


def test_the_help_decides_where_it_lists_options():
    listed = Nsys(path="nsys", version=(2026, 2, 1), options=frozenset({"--sample", "--stats", "--output"}))
    found = profile_command(listed, ["true"], output=OUT)
    assert [word for word in found.argv if word.startswith("--c")] == []
    assert len(found.notes) == 3


def test_a_capture_range_lets_the_application_run_on():
    capture = CaptureRange(kind="nvtx", nvtx_range="measure@enginewatch")
    found = profile_command(NEW, ["true"], output=OUT, capture=capture)
    assert "--capture-range=nvtx" in found.argv
    assert "--capture-range-end=stop" in found.argv
    assert "--nvtx-capture=measure@enginewatch" in found.argv


def test_reports_have_the_names_of_the_version():
    assert report_name(OLD, "cuda_gpu_kern_sum") == "gpukernsum"
    assert report_name(NEW, "cuda_gpu_kern_sum") == "cuda_gpu_kern_sum"
    assert report_name(OLD, "enginewatch_gpu_idle") == "enginewatch_gpu_idle"
    words = stats_command(OLD, Path("a.nsys-rep"), output=OUT, folder=Path("/reports"))
    assert words[:4] == ("/opt/nsys", "stats", "--report-dir", "/reports")
    assert "gpukernsum" in words
    assert words[-1] == "a.nsys-rep"
    assert analyze_command(NEW, Path("a.nsys-rep"), output=OUT).count("--rule") == 6
    assert "--type=sqlite" in export_command(NEW, Path("a.nsys-rep"), output=OUT)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVIDIA Nsight Systems version 2026.2.1.106-262137639646v0", (2026, 2, 1)),
        ("NVIDIA Nsight Systems version 2022.4.2.1-df9881f", (2022, 4, 2)),
        ("NVIDIA Nsight Systems version 2021.3", (2021, 3, 0)),
        ("nsys: command failed", None),
    ],
)
def test_the_version_is_read(text, version):
    assert parse_version(text) == version


def test_options_are_read_from_the_help():
    text = "\t-c, --capture-range=\n\n\t   Possible\n\t--cpuctxsw=\n\t--cuda-graph-trace=<mode>\n\t   not-an-option --x"
    assert {"-c", "--capture-range", "--cpuctxsw", "--cuda-graph-trace"} <= parse_options(text)


def test_the_named_tool_is_used(fake_nsys):
    folder = fake_nsys(version="2024.6.2.225-246235244400v0", lacks=["--discard-environment"])
    found = find_nsys()
    assert (found.path, found.version) == (str(folder / "nsys"), (2024, 6, 2))
    assert found.knows("--cuda-graph-trace", (2030, 1, 0))
    assert not found.knows("--discard-environment", (2020, 1, 0))


def test_absence_is_said_with_a_remedy(no_nsys, monkeypatch):
    with pytest.raises(NotAvailableError) as caught:
        find_nsys()
    assert "neither on PATH" in caught.value.message
    assert "NSYS" in caught.value.remedy
    monkeypatch.setenv("NSYS", "/nowhere/nsys")
    with pytest.raises(NotAvailableError, match="'/nowhere/nsys' is not an executable"):
        find_nsys()


def test_the_doctor_tells_which_nsys_is_used(fake_nsys, monkeypatch):
    folder = fake_nsys()
    found = inventory._nsys()
    assert (found.state, found.found) == (inventory.State.OK, f"2026.2.1 ({folder / 'nsys'})")
    monkeypatch.setenv("NSYS", "/nowhere/nsys")
    assert inventory._nsys().state is inventory.State.MISSING
