"""The collector process, end to end: started, stopped, orphaned, killed."""

import json
import os
import select
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from enginewatch_collector import process as process_module
from enginewatch_collector.process import CollectorProcess
from enginewatch_collector.reasons import telemetry_reasons
from enginewatch_collector.summary import summarise
from enginewatch_db.errors import BackendError, UsageError
from enginewatch_db.tables import TELEMETRY

QUALITY_KEYS = {
    "rate_hz",
    "achieved_hz",
    "ticks_expected",
    "ticks_made",
    "late_ticks",
    "gaps",
    "max_gap_ms",
    "read_p50_us",
    "read_p99_us",
    "own_cpu_pct",
    "errors",
    "events",
    "clock_anchor",
    "backends",
    "thermal_source",
}


def await_end(pid):
    """Wait until a process that need not be our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 30)[0], f"process {pid} still runs"
    finally:
        os.close(fd)


def test_host_and_synthetic_gpu(tmp_path, let_run):
    with CollectorProcess.start(tmp_path, backends=("host", "synthetic"), rate_hz=50) as collector:
        start_ns = time.monotonic_ns()
        let_run(collector.pid, 0.3)
        end_ns = time.monotonic_ns()
        result = collector.stop()
    assert not collector.alive()
    quality = result.quality
    assert set(quality) >= QUALITY_KEYS
    assert (quality["rate_hz"], quality["backends"], quality["ended_early"]) == (50, ["host", "synthetic"], False)
    assert quality["stop_reason"] == "stop"
    assert 2 <= quality["ticks_made"] <= quality["ticks_expected"]
    assert quality["errors"].keys() <= {"cpu_freq_mhz"}
    anchor = quality["clock_anchor"]
    assert anchor["mono_start_ns"] < start_ns < end_ns < anchor["mono_end_ns"]
    assert anchor["wall_start"] < anchor["wall_end"]
    assert [facts["device"] for facts in result.devices] == ["host", "gpu0"]
    assert result.table.schema == TELEMETRY
    # absolute monotonic times, and counters that span the window
    metrics = {metric.metric: metric for metric in summarise(result.table, start_ns, end_ns)}
    assert metrics["energy_j"].value > 0
    assert metrics["cpu_util_mean_pct"].value is not None
    assert "telemetry_absent" not in {r.code for r in telemetry_reasons(result.table, quality, start_ns, end_ns)}


def test_stop_leaves_parquet_and_json_and_can_be_called_again(tmp_path):
    with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
        result = collector.stop()
    assert collector.stop() is result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collector.json", "collector.log", "telemetry.parquet"]
    assert pq.read_table(tmp_path / "telemetry.parquet").equals(result.table)
    assert json.loads((tmp_path / "collector.json").read_text())["quality"] == result.quality
    assert (tmp_path / "collector.log").read_text() == ""


def test_a_folder_can_be_used_again(tmp_path):
    for _ in range(2):
        with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
            result = collector.stop()
    times = result.table.column("t_ns").to_pylist()
    assert min(times) >= result.quality["clock_anchor"]["mono_start_ns"] - 1_000_000_000


def test_the_fake_gpu_in_a_real_process(tmp_path, let_run, nvml_folders, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_folders["current"]))
    monkeypatch.setenv("FAKE_NVML", "gpus=2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with CollectorProcess.start(tmp_path, rate_hz=50) as collector:
        start_ns = time.monotonic_ns()
        let_run(collector.pid, 0.5)
        end_ns = time.monotonic_ns()
        result = collector.stop()
    assert result.quality["backends"] == ["host", "nvml"]
    assert result.quality["thermal_source"] == "fields_269_270"
    assert [facts["device"] for facts in result.devices] == ["host", "gpu0", "gpu1"]
    metrics = {metric.metric: metric for metric in summarise(result.table, start_ns, end_ns)}
    assert metrics["energy_j"].value == pytest.approx(1000 * (end_ns - start_ns) / 1e9, rel=0.2)
    # closer GPM samples would have given zeros and NaN
    assert metrics["sm_active_mean_pct"].value == pytest.approx(95.9)
    assert "dram_bw_pct_of_peak" not in result.quality["errors"]


def test_a_gpu_that_is_lost_does_not_end_the_collector(tmp_path, let_run, nvml_folders, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_folders["current"]))
    monkeypatch.setenv("FAKE_NVML", "lost_after=5")
    with CollectorProcess.start(tmp_path, backends=("nvml", "host"), rate_hz=50) as collector:
        let_run(collector.pid, 0.2)
        result = collector.stop()
    assert result.quality["ended_early"] is False
    assert [event["kind"] for event in result.quality["events"]] == ["gpu_lost"]


def test_a_recording_is_replayed(tmp_path, data_folder, let_run):
    recording = data_folder / "telemetry-vllm.csv"
    with CollectorProcess.start(
        tmp_path, backends=("replay",), rate_hz=50, replay=recording, replay_phase="bf16-c1-rinf"
    ) as collector:
        let_run(collector.pid, 0.1)
        result = collector.stop()
    assert set(result.table.column("source").to_pylist()) == {"replay"}
    assert result.table.column("phase").null_count == result.table.num_rows
    assert result.devices[0]["phases"] == ["bf16-c1-rinf"]


def test_ctrl_c_is_the_harness_business(tmp_path, let_run):
    with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
        assert os.getsid(collector.pid) == collector.pid
        os.kill(collector.pid, signal.SIGINT)
        let_run(collector.pid, 0.2)
        assert collector.stop().quality["ended_early"] is False


def test_sigterm_ends_it_with_all_its_files(tmp_path):
    with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
        os.kill(collector.pid, signal.SIGTERM)
        await_end(collector.pid)
        assert (tmp_path / "telemetry.parquet").exists()
        result = collector.stop()
    assert (result.quality["ended_early"], result.quality["stop_reason"]) == (False, "terminated")


def test_a_killed_collector_leaves_what_it_had_flushed(tmp_path):
    with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
        os.kill(collector.pid, signal.SIGKILL)
        await_end(collector.pid)
        assert not collector.alive()
        result = collector.stop()
    assert result.table.num_rows >= 1
    assert result.quality["ended_early"] is True
    assert result.quality["events"][-1] == {"kind": "collector_ended_early", "exit_code": -signal.SIGKILL}
    assert result.devices[0]["name"] == "Synthetic GPU"


def test_a_collector_that_does_not_answer_is_killed(tmp_path):
    with CollectorProcess.start(tmp_path, backends=("synthetic",)) as collector:
        os.kill(collector.pid, signal.SIGSTOP)
        result = collector.stop(timeout_s=0.1)
    assert result.quality["ended_early"] is True
    assert not collector.alive()


def test_leaving_the_block_leaves_no_process(tmp_path):
    with pytest.raises(RuntimeError, match="in between"), CollectorProcess.start(tmp_path, backends=("host",)) as c:
        raise RuntimeError("in between")
    assert not c.alive()
    # it was not killed: it wrote its files
    assert (tmp_path / "telemetry.parquet").exists()


PARENT = """
import sys
from pathlib import Path
from enginewatch_collector.process import CollectorProcess
collector = CollectorProcess.start(Path(sys.argv[1]), backends=("synthetic",))
{extra}
print(collector.pid, flush=True)
sys.stdin.read()
"""
FORKED = """
import os
if os.fork() == 0:
    # holds the write end of the collector's stdin open after the parent's death
    sys.stdin.read()
    os._exit(0)
"""


@pytest.mark.parametrize(("extra", "reason"), [("", {"stdin_closed", "parent_gone"}), (FORKED, {"parent_gone"})])
def test_a_parent_that_is_killed_leaves_no_collector(tmp_path, extra, reason):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(extra=extra), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        await_end(pid)
    assert pq.read_table(tmp_path / "telemetry.parquet").num_rows >= 1
    quality = json.loads((tmp_path / "collector.json").read_text())["quality"]
    assert quality["ended_early"] is False
    assert quality["stop_reason"] in reason


def test_a_missing_gpu_that_was_asked_for_is_an_error(tmp_path, nvml_folders, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml_folders["current"]))
    monkeypatch.setenv("FAKE_NVML", "init_error=18")
    with pytest.raises(BackendError, match="lib_rm_version_mismatch") as raised:
        CollectorProcess.start(tmp_path, backends=("nvml",))
    assert raised.value.code == "collector_failed"
    assert "reload" in raised.value.remedy


def test_a_collector_that_cannot_start_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(process_module.sys, "executable", "/bin/false")
    with pytest.raises(BackendError, match="did not start") as raised:
        CollectorProcess.start(tmp_path, backends=("host",))
    assert raised.value.code == "collector_failed"
    assert "collector.log" in raised.value.remedy


@pytest.mark.parametrize("options", [{"backends": ("x",)}, {"rate_hz": 1000.0}, {"backends": ("replay",)}])
def test_what_cannot_be_obeyed_is_refused_before_anything_starts(tmp_path, options):
    with pytest.raises(UsageError):
        CollectorProcess.start(tmp_path / "never", **options)
    assert not (tmp_path / "never").exists()


def test_nothing_readable_is_an_error(tmp_path):
    with CollectorProcess.start(tmp_path, backends=("host",)) as collector:
        collector.kill()
        (tmp_path / "collector.journal.jsonl").unlink()
        with pytest.raises(BackendError, match="nothing readable") as raised:
            collector.stop()
    assert raised.value.code == "collector_failed"


def test_the_child_starts_without_the_heavy_libraries():
    heavy = ["pyarrow", "numpy", "duckdb", "click", "rich", "pydantic"]
    code = (
        "import sys, enginewatch_collector.process, enginewatch_collector.child, "
        "enginewatch_collector.backends.host, enginewatch_collector.backends.nvml\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
