"""Publish a read copy: readers never touch the writer's file, so no lock error ever reaches a person."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from enginewatch_db.errors import DiskFullError, StorageError
from enginewatch_db.workspace import Workspace

KEEP_VERSIONS = 2
COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"


def publish(workspace: Workspace) -> None:
    """Copy the closed store and point ``store.read.duckdb`` at the copy, atomically.

    A child process copies: if this process opened the file itself, the kernel would drop the POSIX lock of any
    connection that it still has. Call only while the ingest lock is held and the store is closed.

    Raises:
        DiskFullError: No space for the copy; the older copy stays published.
        StorageError: The copy failed for another reason.
    """
    target = workspace.read_versions / f"store-{time.time_ns()}.duckdb"
    argv = [sys.executable, "-I", "-S", "-c", COPY, str(workspace.store), str(target)]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        detail = (done.stderr.decode(errors="replace").strip().splitlines() or ["unknown"])[-1]
        kind = DiskFullError if "No space left" in detail else StorageError
        raise kind(f"cannot publish the read copy: {detail}", remedy="free some space, then `enginewatch ingest`")
    link = workspace.root / f".link-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(workspace.root))
    link.replace(workspace.read_copy)
    for old in sorted(workspace.read_versions.glob("store-*.duckdb"))[:-KEEP_VERSIONS]:
        old.unlink(missing_ok=True)
