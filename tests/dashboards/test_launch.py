"""Starting and stopping the dashboard."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.request

import psutil
import pytest
from click.testing import CliRunner

from enginewatch_dashboards.cli import dashboard
from enginewatch_dashboards.launch import APP, check_address, command, url
from enginewatch_db.errors import UsageError
from enginewatch_db.workspace import Workspace


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_taken_port_is_named_with_a_free_one(taken):
    with pytest.raises(UsageError) as caught:
        check_address("127.0.0.1", taken)
    assert f"port {taken} on 127.0.0.1 is taken by another program" in caught.value.message
    other = int(caught.value.remedy.rpartition(" ")[2])
    assert other != taken
    check_address("127.0.0.1", other)


def test_an_address_of_another_machine_is_refused():
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(UsageError, match="cannot listen on") as caught:
            check_address(host, 8501)
        assert "--host" in caught.value.remedy


def test_the_command_is_private_by_default():
    line = command("127.0.0.1", 8600)
    settings = dict(zip(line[5::2], line[6::2], strict=True))
    assert line[:5] == [sys.executable, "-m", "streamlit", "run", str(APP)]
    assert settings["--server.address"] == "127.0.0.1"
    assert settings["--server.port"] == "8600"
    assert settings["--server.headless"] == "true"
    assert settings["--browser.gatherUsageStats"] == "false"
    assert settings["--server.fileWatcherType"] == "none"


def test_the_app_has_no_folder_that_streamlit_takes_for_pages():
    assert APP.is_file()
    assert not (APP.parent / "pages").exists()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1")],  # noqa: S104
)
def test_the_url_is_one_that_a_browser_here_can_open(host, shown):
    assert url(host, 1) == shown


def test_the_command_line_passes_the_error_on(taken, tmp_path):
    result = CliRunner().invoke(dashboard, ["--store", str(tmp_path), "--port", str(taken), "--no-browser"])
    assert isinstance(result.exception, UsageError)
    assert str(taken) in str(result.exception)


def test_the_command_line_starts_the_dashboard_of_the_store(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        "enginewatch_dashboards.cli.launch", lambda workspace, **options: asked.update(options, at=workspace) or 7
    )
    result = CliRunner().invoke(dashboard, ["--store", str(tmp_path), "--port", "8600", "--no-browser"])
    assert result.exit_code == 7
    assert asked == {"at": tmp_path, "port": 8600, "host": "127.0.0.1", "open_browser": False}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_without_a_store_and_ends_whole(served, tmp_path, stop):
    with served(Workspace(tmp_path / "nothing")) as running:
        with urllib.request.urlopen(f"{running.url}/_stcore/health", timeout=10) as answer:
            assert answer.status == 200
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert children
        running.process.send_signal(stop)
        code = running.process.wait(30)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
        assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) if stop is signal.SIGTERM else code == 0
