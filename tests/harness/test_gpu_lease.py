"""Two sessions never measure on one GPU at once."""

from __future__ import annotations

import fcntl
import os
import stat

import pytest

from enginewatch_collector.backends.nvml_devices import GpuDevice
from enginewatch_db.errors import UnfitError
from enginewatch_harness.gpu_lease import lease

ONE = GpuDevice(uuid="GPU-1", name="NVIDIA H200", index=0)
TWO = GpuDevice(uuid="GPU-2", name="NVIDIA H200", index=1)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def test_a_second_session_is_refused_and_told_who_has_the_gpu():
    with (
        lease([ONE], wait_s=0),
        pytest.raises(UnfitError, match=rf"NVIDIA H200 GPU-1 .*process {os.getpid()}\).*--device"),
        lease([TWO, ONE], wait_s=0),
    ):
        pass
    # the one that was refused holds nothing back
    with lease([TWO], wait_s=0), lease([ONE], wait_s=0):
        pass


def test_several_cases_on_one_gpu_are_one_lease():
    with lease([ONE, ONE], wait_s=0), lease([TWO], wait_s=0), lease([], wait_s=0):
        pass


def test_it_waits_for_the_other_to_end(locks, monkeypatch):
    with lease([ONE], wait_s=0):
        pass
    holder = os.open(locks / "GPU-1.lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    monkeypatch.setattr("enginewatch_harness.gpu_lease.time.sleep", lambda _seconds: os.close(holder))
    with lease([ONE], wait_s=60):
        pass


def test_the_folder_and_its_files_are_for_all_users(locks):
    before = os.umask(0o077)
    try:
        with lease([ONE], wait_s=0):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(locks.stat().st_mode) == 0o1777
    assert stat.S_IMODE((locks / "GPU-1.lock").stat().st_mode) == 0o666


def test_a_link_is_not_followed(locks, tmp_path):
    locks.mkdir()
    (tmp_path / "precious").write_text("kept")
    (locks / "GPU-1.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UnfitError, match=r"cannot lease GPU-1.*ENGINEWATCH_LOCKS"), lease([ONE], wait_s=0):
        pass
    assert (tmp_path / "precious").read_text() == "kept"
