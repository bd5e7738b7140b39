"""Launched servers, for real: ready, late, dead, deaf, with children; the scraper beside them; nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_harness import process
from enginewatch_harness.targets import local, precision, probe
from enginewatch_harness.targets.identify import identify
from enginewatch_harness.targets.scraper import Found, Scraper, find, named
from enginewatch_harness.targets.server import Command, LaunchedServer, free_port, port_is_free

FAKE = Path(__file__).parents[1] / "data" / "harness" / "targets" / "fake_server.py"


def wait_for(condition, timeout_s: float = 20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def launch(tmp_path):
    def build(behaviour: str, **changes):
        port = free_port()
        facts = {
            "argv": (sys.executable, str(FAKE), str(port), behaviour),
            "ready": "/health",
            "what": "fake",
            "grace_s": 5.0,
        }
        ask = probe.asker(f"http://127.0.0.1:{port}")
        return LaunchedServer(Command(**(facts | changes)), tmp_path, ask), f"http://127.0.0.1:{port}", ask

    return build


def members(marker: str) -> list[psutil.Process]:
    found = []
    for item in psutil.process_iter():
        try:
            if item.status() != psutil.STATUS_ZOMBIE and any(marker in part for part in item.cmdline()):
                found.append(item)
        except psutil.Error:
            continue
    return found


def test_a_server_is_started_recognised_and_stopped(launch, tmp_path):
    made, url, ask = launch("ok", env={"FAKE": "yes"})
    with made as server:
        load_time_s = server.wait_until_ready(20)
        assert 0 < load_time_s < 20
        facts = identify(ask)
        assert (facts.family, facts.version, facts.models, facts.max_context) == ("vllm", "0.20.0", ("m7b",), 64)
        read = precision.from_log(facts.family, wait_for(lambda: server.log_head().strip()))
        assert read is not None
        assert read.precision == "fp8"
        assert "env=yes" in server.log_head()
        assert server.ended() is None
        pids = server.pids()
        assert len(pids) == 2  # the guard and the server
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert port_is_free(int(url.rpartition(":")[2]))
    assert (tmp_path / "server.stderr.log").stat().st_size


@pytest.mark.parametrize(
    ("behaviour", "code", "text"),
    [
        ("dies", "crashed", "something that no table knows"),
        ("oom", "out_of_memory", "CUDA out of memory"),
        ("flag", "unknown_flag", "--frob"),
    ],
)
def test_a_server_that_dies_is_noticed_at_once_with_its_last_words(launch, behaviour, code, text):
    made, _, _ = launch(behaviour)
    began = time.monotonic()
    with made as server, pytest.raises(BackendError, match="before it was ready") as caught:
        server.wait_until_ready(300)
    assert caught.value.code == code
    assert text in caught.value.message
    assert "server.stderr.log" in str(caught.value.remedy)
    assert time.monotonic() - began < 60


def test_a_server_that_never_becomes_ready_is_stopped_at_the_limit(launch):
    made, _, ask = launch("never")
    with made as server:
        wait_for(lambda: ask("/health"))
        with pytest.raises(BackendError, match=r"not ready after 0\.2 s") as caught:
            server.wait_until_ready(0.2)
        pids = server.pids()
    assert caught.value.code == "server_not_ready"
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("behaviour", ["children", "escapes", "deaf"])
def test_nothing_of_a_server_survives_its_end(launch, behaviour):
    made, _, _ = launch(behaviour, grace_s=0.5 if behaviour != "children" else 5.0)
    with made as server:
        server.wait_until_ready(20)
        family = [psutil.Process(pid) for pid in server.pids()]
        assert len(family) == (2 if behaviour == "deaf" else 3)
    assert [item for item in family if item.is_running() and item.status() != psutil.STATUS_ZOMBIE] == []


def test_nothing_of_a_server_survives_an_end_before_it_was_ready(launch):
    others = set(psutil.Process().children(recursive=True))
    made, _, ask = launch("escapes", grace_s=0.5)
    with made:
        wait_for(lambda: ask("/health"))
        family = set(psutil.Process().children(recursive=True)) - others
        assert len(family) == 3
    assert [item for item in family if item.is_running() and item.status() != psutil.STATUS_ZOMBIE] == []


def test_an_absent_program_is_not_available(tmp_path):
    command = Command(argv=("no-such-server",), ready="/health", what="vllm")
    with pytest.raises(NotAvailableError, match="no-such-server") as caught, LaunchedServer(command, tmp_path, str):
        pass
    assert caught.value.code == "not_available"


def test_a_server_ends_with_a_harness_that_is_killed(tmp_path):
    port = free_port()
    script = textwrap.dedent(f"""
        import signal, sys
        from pathlib import Path
        from enginewatch_harness.targets.probe import asker
        from enginewatch_harness.targets.server import Command, LaunchedServer
        command = Command(argv=(sys.executable, {str(FAKE)!r}, "{port}", "children"), ready="/health", what="fake")
        with LaunchedServer(command, Path({str(tmp_path)!r}), asker("http://127.0.0.1:{port}")) as server:
            server.wait_until_ready(20)
            print(*server.pids(), flush=True)
            signal.pause()
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


# --- containers ---------------------------------------------------------------------------------------------

DOCKER = """#!/bin/sh
# The daemon's part is played by a process that is nobody's child here.
case "$1" in
run) setsid {python} {fake} {port} ok > /dev/null 2>&1 & echo $! > {folder}/pid
    while kill -0 $(cat {folder}/pid) 2> /dev/null; do sleep 0.05; done ;;
stop) echo "$@" > {folder}/stopped; kill -TERM $(cat {folder}/pid) ;;
esac
"""


@pytest.fixture
def docker(tmp_path):
    """A client of containers whose container is the fake server."""
    port = free_port()
    path = tmp_path / "docker"
    path.write_text(DOCKER.format(python=sys.executable, fake=FAKE, port=port, folder=tmp_path))
    path.chmod(0o755)
    yield path, port
    if (tmp_path / "pid").exists():
        pid = int((tmp_path / "pid").read_text())
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_container_is_stopped_by_its_name(docker, tmp_path):
    path, port = docker
    command = Command(
        argv=(str(path), "run", "image"), ready="/health", what="nim", grace_s=5, container="enginewatch-1"
    )
    with LaunchedServer(command, tmp_path, probe.asker(f"http://127.0.0.1:{port}")) as server:
        server.wait_until_ready(20)
        pid = int((tmp_path / "pid").read_text())
    assert (tmp_path / "stopped").read_text().split() == ["stop", "--time", "5", "enginewatch-1"]
    wait_for(lambda: not psutil.pid_exists(pid))


def test_a_container_is_stopped_when_the_harness_is_killed(docker, tmp_path):
    path, _ = docker
    shim = [sys.executable, "-m", "enginewatch_harness.targets.container", "box", "5", str(path), "run", "image"]
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import signal, subprocess; subprocess.Popen({shim!r}, stdin=subprocess.PIPE); signal.pause()",
        ]
    )
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: (tmp_path / "stopped").exists() and not psutil.pid_exists(pid))
    wait_for(lambda: not members(str(path)))


def test_a_container_that_ends_early_ends_its_front(docker, tmp_path):
    path, port = docker
    command = Command(argv=(str(path), "other"), ready="/health", what="nim", container="box")
    told = pytest.raises(BackendError, match="ended with status 0 before it was ready")
    with LaunchedServer(command, tmp_path, probe.asker(f"http://127.0.0.1:{port}")) as server, told:
        server.wait_until_ready(60)


# --- the scraper --------------------------------------------------------------------------------------------


def scraped(found: Found, tmp_path: Path, at_least: int, **options):
    with Scraper(found, interval_s=0.05, log_dir=tmp_path, **options) as scraper:
        kept = tmp_path / "server_metrics.bin"
        if found.path is not None:
            wait_for(lambda: kept.exists() and kept.read_bytes().count(b'"t_ns"') >= at_least)
    return scraper.seen()


def test_metrics_are_scraped_beside_the_load_with_their_times(launch, tmp_path):
    made, url, ask = launch("ok")
    with made as server:
        server.wait_until_ready(20)
        found = find(ask, url, ("/nothing", "/metrics"))
        assert found.path == "/metrics"
        began_ns = time.monotonic_ns()
        seen = scraped(found, tmp_path, 3)
        ended_ns = time.monotonic_ns()
    assert seen.source == "vllm"
    times = [row["t_ns"] for row in seen.rows]
    assert times == sorted(times)
    assert began_ns < times[0]
    assert times[-1] < ended_ns
    # One before the load, one at the end, and each question was asked once.
    counted = [row["prompt_tokens"] for row in seen.rows]
    assert counted == list(range(int(counted[0]), int(counted[0]) + len(counted)))
    assert len(counted) >= 4
    assert members("targets.scrape") == []


def test_draining_statistics_are_read_once_and_none_is_lost(launch, tmp_path):
    made, url, ask = launch("drain")
    with made as server:
        server.wait_until_ready(20)
        found = find(ask, url, ("/prometheus/metrics", "/metrics"))
        assert found.path == "/metrics"
        seen = scraped(found, tmp_path, 3)
    assert seen.source == "trtllm"
    done = [row["requests_done"] for row in seen.rows]
    assert done == list(range(1, len(done) + 1))  # five per answer, in one row each
    assert len(done) >= 15
    steps = {round(later["t_ns"] - earlier["t_ns"]) for earlier, later in zip(seen.rows, seen.rows[1:], strict=False)}
    assert steps == {10_000_000}
    assert seen.rows[0]["kv_cache_used_pct"] == 25


def test_a_server_without_metrics_says_why(launch, tmp_path):
    made, url, ask = launch("plain")
    with made as server:
        server.wait_until_ready(20)
        found = find(ask, url, ("/metrics",))
        assert found.absent == "the server has no /metrics (404)"
        assert scraped(found, tmp_path, 0).absent == found.absent
        forced = scraped(named("/metrics", url), tmp_path, 2)
    assert forced.absent == "the server has no /metrics (404)"


def test_secrets_reach_the_scraper_by_the_environment_alone(launch, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_KEY", "s3cret")
    made, url, _ = launch("key")
    with made as server:
        server.wait_until_ready(20)
        assert find(probe.asker(url), url, ("/metrics",)).path is None
        with Scraper(
            named("/metrics", url), interval_s=0.05, log_dir=tmp_path, secrets=("--bearer-env", "FAKE_KEY")
        ) as scraper:
            kept = tmp_path / "server_metrics.bin"
            wait_for(lambda: kept.exists() and kept.read_bytes().count(b'"t_ns"') >= 2)
            lines = [part for item in members("targets.scrape") for part in item.cmdline()]
    assert not any("s3cret" in part for part in lines)
    assert scraper.seen().source == "vllm"


def test_a_server_that_goes_away_leaves_what_was_scraped(launch, tmp_path):
    made, url, _ = launch("ok")
    with made as server:
        server.wait_until_ready(20)
        with Scraper(named("/metrics", url), interval_s=0.05, log_dir=tmp_path) as scraper:
            kept = tmp_path / "server_metrics.bin"
            wait_for(lambda: kept.exists() and kept.read_bytes().count(b'"status": 200') >= 2)
            server.stop()
            wait_for(lambda: kept.read_bytes().count(b'"status": 0') >= 1)
    seen = scraper.seen()
    assert len(seen.rows) >= 2
    assert "did not answer" in seen.notes[0]


def test_metrics_may_lie_on_another_port():
    assert named("http://host:8002/metrics", "http://host:8000") == Found(url="http://host:8002", path="/metrics")
    assert named("metrics", "http://host:8000") == Found(url="http://host:8000", path="/metrics")


def test_the_processes_of_a_server_behind_a_url_are_its_own(tmp_path):
    url_file = tmp_path / "url"
    child = process.start(
        [sys.executable, "-m", "enginewatch_harness.load.reference_server"], stdout=url_file, stderr=tmp_path / "log"
    )
    try:
        while not url_file.read_text().endswith("\n"):
            assert child.poll() is None
        url = url_file.read_text().strip()
        assert child.pid in local.server_pids(url)
        assert os.getpid() not in local.server_pids(url)  # its parent is another program
        assert child.pid in local.server_pids(url.replace("127.0.0.1", "localhost") + "/v1")
        assert local.server_pids("http://192.0.2.1:80") == frozenset()
        for name in (items[0].address for items in psutil.net_if_addrs().values() if items[0].family == socket.AF_INET):
            assert child.pid in local.server_pids(url.replace("127.0.0.1", name))
    finally:
        process.stop_group(child, 1.0)
    assert local.server_pids(url) == frozenset()


def test_a_program_that_only_passes_connections_on_says_nothing_of_the_server(tmp_path):
    forwarder = tmp_path / "socat"
    shutil.copy(Path(sys.executable).resolve(), forwarder)
    code = "import signal, socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    child = subprocess.Popen(
        [forwarder, "-c", f"{code}; signal.pause()"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")},
    )
    try:
        port = int(child.stdout.readline())
        assert local.server_pids(f"http://127.0.0.1:{port}") == frozenset()
    finally:
        child.kill()
        child.communicate()


def test_a_port_on_which_nobody_listens_has_no_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        with socket.create_connection((host, port)) as client:
            assert os.getpid() in local.server_pids(f"http://{host}:{port}")
            assert local.server_pids(f"http://{host}:{client.getsockname()[1]}") == frozenset()
