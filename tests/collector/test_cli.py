import json
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from enginewatch_collector.cli import collect
from enginewatch_db.errors import UsageError

QUICK = ["--seconds", "0.2", "--rate-hz", "50", "--backend", "synthetic"]


def run(*arguments):
    return CliRunner().invoke(collect, list(arguments), catch_exceptions=False)


def test_a_table_on_stdout_and_files_in_the_folder(tmp_path):
    result = run(*QUICK, "--backend", "host", "--out", str(tmp_path / "o"))
    assert result.exit_code == 0
    assert "sm_active_mean_pct" in result.stdout
    assert "Synthetic GPU" in result.stdout
    assert "telemetry.parquet" in result.stdout
    assert result.stderr.startswith("sampling at 50 Hz")
    assert pq.read_table(tmp_path / "o" / "telemetry.parquet").num_rows > 2
    assert json.loads((tmp_path / "o" / "collector.json").read_text())["quality"]["rate_hz"] == 50


def test_json(tmp_path):
    result = run(*QUICK, "--out", str(tmp_path), "--json")
    report = json.loads(result.stdout)
    assert report["version"] == 1
    metrics = {metric["metric"]: metric for metric in report["metrics"]}
    assert metrics["energy_j"]["value"] > 0
    assert metrics["energy_j"]["unit"] == "J"
    assert metrics["cpu_util_mean_pct"]["absent_reason"] == "no host telemetry"
    assert report["quality"]["backends"] == ["synthetic"]
    assert report["devices"][0]["device"] == "gpu0"
    assert pq.read_table(report["files"]["table"]).num_rows > 2


def test_a_recording(tmp_path, data_folder):
    recording = data_folder / "telemetry-trtexec.csv"
    result = run(
        *QUICK[:4], "--backend", "replay", "--replay", str(recording), "--replay-phase", "idle", "--out", str(tmp_path)
    )
    assert "recording telemetry-trtexec.csv" in result.stdout


def test_telemetry_is_never_written_over(tmp_path):
    (tmp_path / "telemetry.parquet").touch()
    with pytest.raises(UsageError, match="--out"):
        run(*QUICK, "--out", str(tmp_path))


def test_an_unknown_backend_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(collect, ["--backend", "nvlm", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "'synthetic'" in result.stderr


def test_the_default_folder_is_named_by_the_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*QUICK)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("telemetry-20")


def test_ctrl_c_keeps_what_was_sampled(tmp_path):
    code = "from enginewatch_collector.cli import collect; collect()"
    arguments = ["--seconds", "60", "--backend", "synthetic", "--out", str(tmp_path), "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline().startswith("sampling")
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(stdout)["quality"]["ended_early"] is False
    assert (tmp_path / "telemetry.parquet").exists()
