"""``kill -9`` of the harness at random moments: no finished run lost, none counted twice, the store opens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from enginewatch_db.connect import Reader
from enginewatch_db.ingest import ingest
from enginewatch_db.workspace import Workspace

KILLS = 20
PLAN = """
name = "kill"
repeats = 40
seed = 5
[measure]
warmup_s = 0.0
duration_s = 0.05
[[model]]
name = "net"
generate = "convnet_tiny"
[[workload]]
name = "net"
model = "net"
backends = ["onnxruntime"]
precisions = ["fp32"]
batches = [1]
"""


def finished(workspace: Workspace) -> set[str]:
    """Run ids that have a whole bundle: what must never be lost."""
    names = set()
    for folder in (workspace.spool, *workspace.done.glob("dt=*")):
        if folder.is_dir():
            names |= {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    return names


def stored(workspace: Workspace) -> list[str]:
    with Reader.open(workspace) as reader:
        return [str(row["run_id"]) for row in reader.console("SELECT run_id FROM runs").to_pylist()]


def start(folder: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "enginewatch_harness.cli", "run", "plan.toml", "--no-judge", "--progress", "plain"]
    return subprocess.Popen(
        [*argv, "--resume"] if resume else argv,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def children_of_enginewatch(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
    ]


def test_kill_nine_at_twenty_random_moments(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    workspace = Workspace(tmp_path / ".enginewatch")
    moments = random.Random(20261121)
    seen: set[str] = set()
    for kill in range(KILLS):
        process = start(tmp_path, resume=bool(list(workspace.work.glob("*/session.json"))))
        try:
            process.wait(timeout=moments.uniform(0.5, 4.5))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        assert code in (-signal.SIGKILL, 0), f"kill {kill}: the harness ended by itself with {code}"

        now = finished(workspace)
        assert seen <= now, f"kill {kill} lost {seen - now}"
        seen = now
        if seen:
            ingest(workspace)
            found = stored(workspace)
            assert len(found) == len(set(found)), f"kill {kill} counted a run twice"
            assert set(found) == finished(workspace)

    assert len(seen) >= 3, "too few runs finished between the kills to prove anything"
    _, alive = psutil.wait_procs(children_of_enginewatch(tmp_path), timeout=10)
    assert not alive, f"left behind: {alive}"
    with Reader.open(workspace) as reader:
        repeats = reader.console("SELECT session_id, case_key, repeat, count(*) AS n FROM runs GROUP BY ALL")
    assert set(repeats.column("n").to_pylist()) == {1}
