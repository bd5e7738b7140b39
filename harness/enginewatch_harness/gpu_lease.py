"""One session at a time on a GPU of this host, whatever store it writes to: a ``flock`` per UUID in a shared folder.

The kernel frees a lock when its process ends, however it ends. The folder is like ``/tmp`` itself (anyone may make
files in it, only their owner may remove them), so that users wait for each other too. Containers on one host share
the leases where they share the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import UnfitError

if TYPE_CHECKING:
    from enginewatch_collector.backends.nvml_devices import GpuDevice

VARIABLE = "ENGINEWATCH_LOCKS"
DEFAULT_FOLDER = "/tmp/enginewatch-locks"  # noqa: S108 (one folder for all users of a host; opened without following links)
POLL_S = 0.1
_ANYONE = 0o666


def folder() -> Path:
    """Return the folder of the locks: ``$ENGINEWATCH_LOCKS``, or one that all users of this host share."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_FOLDER)


@contextlib.contextmanager
def lease(devices: Sequence[GpuDevice], *, wait_s: float) -> Iterator[None]:
    """Hold the GPUs for the time of the ``with`` block.

    Args:
        devices: What the session measures on; a MIG slice is leased by itself, beside its sisters.
        wait_s: How long to wait for another session on one of them to end, over all of them.

    Raises:
        UnfitError: Another session held one for longer than that, or the folder cannot be used.
    """
    deadline = time.monotonic() + wait_s
    with contextlib.ExitStack() as held:
        # Everyone takes them in the same order, so two sessions never wait for each other.
        for device in sorted({device.uuid: device for device in devices}.values(), key=lambda device: device.uuid):
            held.callback(os.close, _take(device, deadline))
        yield


def _take(device: GpuDevice, deadline: float) -> int:
    path = folder() / f"{device.uuid}.lock"
    try:
        _make_folder(path.parent)
        fd = _open(path)
    except OSError as error:
        raise UnfitError(
            f"cannot lease {device.uuid}: {path}: {error.strerror}",
            remedy=f"give all users of this host a folder that they may write to with {VARIABLE}",
        ) from error
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                owner = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
                os.close(fd)
                raise UnfitError(
                    f"another session measures on {device.name} {device.uuid} ({path}, process {owner})",
                    remedy="wait for it (--wait-s), or choose another GPU with --device",
                ) from error
            time.sleep(POLL_S)
    # A file that another user made may be read only: the lock holds all the same, and names no process.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True)
        path.chmod(0o1777)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise


def _open(path: Path) -> int:
    """Open or make a lock file that other users may lock as well; never through a link."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, _ANYONE)
        os.fchmod(fd, _ANYONE)  # past the umask
        return fd
    try:
        return os.open(path, flags | os.O_RDWR)
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)
