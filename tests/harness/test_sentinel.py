"""The control: fixed work on one thread, the same in every run."""

from __future__ import annotations

import subprocess
import sys

from enginewatch_harness import sentinel


def test_every_round_takes_time_and_none_is_lost():
    rounds = sentinel.sample()
    assert len(rounds) == sentinel.REPEATS
    assert min(rounds) > 0


def test_it_runs_on_one_thread():
    code = "import time\nfrom enginewatch_harness import sentinel\nsentinel.sample()\n"
    code += "wall, cpu = time.perf_counter(), time.process_time()\nfor _ in range(10): sentinel.sample()\n"
    code += "print((time.process_time() - cpu) / (time.perf_counter() - wall))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.1
