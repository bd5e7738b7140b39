import os

import pytest

from enginewatch_collector.backends.processes import describe, process_name, relation


@pytest.fixture
def proc(tmp_path):
    """A process table: 1 init, 10 harness, 11 its worker, 12 the worker's child, 20 somebody else."""
    for pid, name, parent in ((1, "init", 0), (10, "bash", 1), (11, "a) b (c", 10), (12, "srv", 11), (20, "x", 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0")
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("pid", "expected"), [(10, "own"), (11, "own"), (12, "own"), (1, "foreign"), (20, "foreign"), (99, "unresolved")]
)
def test_relation(proc, pid, expected):
    assert relation(pid, 10, proc=proc) == expected


def test_name(proc):
    assert process_name(11, proc=proc) == "a) b (c"
    assert process_name(99, proc=proc) is None


def test_describe(proc):
    assert describe(20, 512, 10, proc=proc) == {"pid": 20, "name": "x", "used_mib": 512, "relation": "foreign"}


def test_the_real_process_table():
    assert relation(os.getpid(), os.getpid()) == "own"
    assert relation(os.getpid(), os.getppid()) == "own"
    assert relation(os.getppid(), os.getpid()) == "foreign"
