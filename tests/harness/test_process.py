"""Children end with their parent, groups end whole, and output comes back as bytes."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from enginewatch_db.errors import BackendError
from enginewatch_harness import process

PYTHON = sys.executable


def wait_until_ended(pid: int, timeout_s: float = 20) -> None:
    """Block on the process's own descriptor until it ends; a zombie counts as ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(timeout_s * 1000), f"process {pid} is still there"
    finally:
        os.close(descriptor)


def read_line(path: Path, child: subprocess.Popen, timeout_s: float = 20) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and child.poll() is None:
        text = path.read_text() if path.exists() else ""
        if text.endswith("\n"):
            return text
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.01)
    raise AssertionError(f"no line in {path}: {path.read_text()!r}")


def start_python(tmp_path: Path, code: str, **options) -> tuple[subprocess.Popen, Path]:
    out = tmp_path / "child.out"
    child = process.start([PYTHON, "-c", textwrap.dedent(code)], stdout=out, stderr=tmp_path / "child.err", **options)
    return child, out


def test_kill_9_of_the_parent_leaves_nothing(tmp_path):
    code = f"""
    import json, os, signal, subprocess, sys, threading
    from pathlib import Path
    from enginewatch_harness import process

    grandchild = (
        "import os, subprocess, sys, signal\\n"
        "from enginewatch_harness.process import die_with_parent\\n"
        "die_with_parent()\\n"
        "inner = subprocess.Popen(['sleep', '600'])\\n"
        "print(os.getpid(), inner.pid, flush=True)\\n"
        "signal.pause()\\n"
    )
    here = Path({str(tmp_path)!r})
    child = process.start([sys.executable, "-c", grandchild], stdout=here / "own.out", stderr=here / "own.err")
    tool = ["sh", "-c", "sleep 600 & echo $$ $!; wait"]
    threading.Thread(target=process.run_tool, args=(tool,), kwargs={{"log_prefix": here / "tool"}}, daemon=True).start()
    pids = []
    for name in ("own.out", "tool.stdout.log"):
        text = ""
        while not text.endswith("\\n"):
            text = (here / name).read_text() if (here / name).exists() else ""
        pids += [int(pid) for pid in text.split()]
    print(json.dumps(pids), flush=True)
    signal.pause()
    """
    parent, out = start_python(tmp_path, code)
    try:
        pids = json.loads(read_line(out, parent))
        assert len(pids) == 4
        os.kill(parent.pid, signal.SIGKILL)
        for pid in pids:
            wait_until_ended(pid)
    finally:
        assert process.stop_group(parent, 0) == -signal.SIGKILL


def test_the_whole_group_gets_sigterm_and_is_reaped(tmp_path):
    child, out = start_python(
        tmp_path,
        """
        import os, signal, subprocess
        inner = subprocess.Popen(["sleep", "600"])
        print(inner.pid, flush=True)
        signal.pause()
        """,
    )
    inner = int(read_line(out, child))
    assert process.stop_group(child, grace_s=20) == -signal.SIGTERM
    wait_until_ended(inner)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    assert child.stdin.closed
    assert process.stop_group(child, grace_s=0) == -signal.SIGTERM  # a second stop is harmless


def test_what_ignores_sigterm_is_killed(tmp_path):
    child, out = start_python(
        tmp_path,
        """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", flush=True)
        while True:
            signal.pause()
        """,
    )
    read_line(out, child)
    assert process.stop_group(child, grace_s=0.05) == -signal.SIGKILL


def test_a_member_that_outlives_its_leader_is_killed(tmp_path):
    child, out = start_python(
        tmp_path,
        """
        import subprocess
        print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
        """,
    )
    child.wait()
    assert process.stop_group(child, grace_s=0) == 0
    wait_until_ended(int(out.read_text()))


def test_tool_output_is_apart_and_in_bytes(tmp_path):
    result = process.run_tool(
        ["sh", "-c", r"printf '\377out'; printf 'err\376' >&2; exit 3"], log_prefix=tmp_path / "tool"
    )
    assert (result.returncode, result.stdout, result.stderr) == (3, b"\xffout", b"err\xfe")
    assert result.duration_s > 0
    assert (tmp_path / "tool.stdout.log").read_bytes() == b"\xffout"
    assert (tmp_path / "tool.stderr.log").read_bytes() == b"err\xfe"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_the_signal_that_ended_a_tool_is_reported(tmp_path, name):
    result = process.run_tool(["sh", "-c", f"kill -{name[3:]} $$"], log_prefix=tmp_path / "tool")
    assert result.returncode == -signal.Signals[name]


def test_environment_directory_and_input(tmp_path):
    where = tmp_path / "where"
    where.mkdir()
    result = process.run_tool(
        ["sh", "-c", "pwd; echo $COLOUR; cat"],
        cwd=where,
        env={"COLOUR": "blue", "PATH": os.environ["PATH"]},
        log_prefix=tmp_path / "tool",
    )
    assert result.stdout.decode().split() == [str(where), "blue"]  # and cat met an end of file at once


def test_a_tool_that_runs_too_long_is_killed_whole(tmp_path):
    with pytest.raises(BackendError) as caught:
        process.run_tool(
            ["sh", "-c", "sleep 600 & echo $!; echo thinking >&2; wait"],
            timeout_s=0.5,
            log_prefix=tmp_path / "tool",
        )
    assert caught.value.code == "timeout"
    assert "0.5 s" in str(caught.value)
    assert "thinking" in str(caught.value)
    wait_until_ended(int((tmp_path / "tool.stdout.log").read_text()))


def test_a_tool_that_leaves_a_daemon_behind_leaves_nothing(tmp_path):
    result = process.run_tool(["sh", "-c", "sleep 600 & echo $!"], log_prefix=tmp_path / "tool")
    assert result.returncode == 0
    wait_until_ended(int(result.stdout))


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-tool"):
        process.run_tool(["no-such-tool"], log_prefix=tmp_path / "tool")


def test_a_file_that_is_no_program(tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    result = process.run_tool(["./broken"], cwd=tmp_path, log_prefix=tmp_path / "tool")
    assert result.returncode == 126
    assert b"cannot execute" in result.stderr


def test_tail_is_the_end_and_survives_bad_text(tmp_path):
    log = tmp_path / "log"
    assert process.tail(log) == ""
    log.write_bytes(b"x" * 10_000 + b"\xff the end\n")
    assert process.tail(log, 20).endswith("\N{REPLACEMENT CHARACTER} the end")
    assert len(process.tail(log)) == process.TAIL_BYTES - 1


def test_cores_are_left_as_they_were():
    before = os.sched_getaffinity(0)
    chosen = {max(before)}
    with contextlib.suppress(KeyError), process.on_cores(chosen):
        assert os.sched_getaffinity(0) == chosen
        raise KeyError
    assert os.sched_getaffinity(0) == before
    with process.on_cores(None):
        assert os.sched_getaffinity(0) == before
