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
    code += "whole, own = time.process_time(), time.thread_time()\nfor _ in range(20): sentinel.sample()\n"
    code += "print((time.thread_time() - own) / (time.process_time() - whole))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.8
