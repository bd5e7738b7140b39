import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_collector.backends.base import Reading
from enginewatch_collector.journal import FLUSH_NS, Journal, read_journal


def reading(t_ns, **values):
    return Reading(source="host", device="host", t_before_ns=t_ns, t_after_ns=t_ns, values=values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def test_rows_quality_and_devices_survive(path):
    journal = Journal(path)
    journal.append(reading(1, cpu_util_pct=5.0, cpu_util_core_pct=[1.0, 9.0]))
    journal.flush(0, {"ticks_made": 1}, ({"device": "host"},))
    journal.append(reading(2, host_mem_used_mib=7))
    journal.flush(1, {"ticks_made": 2}, ({"device": "host"},))
    journal.close()
    content = read_journal(path)
    assert content.quality == {"ticks_made": 2}
    assert content.devices == ({"device": "host"},)
    first, second = content.buffer.to_table().to_pylist()
    assert (first["t_ns"], first["cpu_util_core_pct"]) == (1, [1.0, 9.0])
    assert (second["t_ns"], second["host_mem_used_mib"]) == (2, 7)


@settings(deadline=None)
@given(cut=st.integers(0, 400))
def test_wherever_a_kill_cuts_the_file_the_whole_lines_before_it_are_read(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "journal"
    journal = Journal(path)
    for t_ns in range(4):
        journal.append(reading(t_ns, host_load_1m=float(t_ns)))
    journal.flush(0, {"ticks_made": 4}, ())
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    # a line is complete without its newline, too
    complete = sum(1 for line in whole.splitlines()[:4] if len(whole[: whole.index(line) + len(line)]) <= cut)
    content = read_journal(path)
    assert len(content.buffer) == complete
    assert content.quality == ({"ticks_made": 4} if cut >= len(whole) - 1 else None)


def test_what_a_full_disk_refuses_is_written_later(path, tmp_path, monkeypatch):
    import os

    journal = Journal(path)
    journal.append(reading(1, host_load_1m=1.0))
    write = os.write
    with monkeypatch.context() as patched, open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
        patched.setattr(os, "write", lambda _, data: write(full.fileno(), data))
        with pytest.raises(OSError, match="No space left"):
            journal.flush(0, {}, ())
    journal.append(reading(2, host_load_1m=2.0))
    journal.flush(1, {}, ())
    journal.close()
    assert read_journal(path).buffer.to_table().column("t_ns").to_pylist() == [1, 2]


def test_flushes_are_due_every_two_seconds_after_the_first(path):
    journal = Journal(path)
    assert not journal.due(10**12)
    journal.flush(0, {}, ())
    assert [journal.due(now) for now in (0, FLUSH_NS - 1, FLUSH_NS)] == [False, False, True]
    journal.close()
