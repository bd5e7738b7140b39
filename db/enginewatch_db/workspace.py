"""Where things lie: one folder holds the store, the spool, the engine cache and the logs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import StorageError, StoreLockedError

DEFAULT_FOLDER = ".enginewatch"
LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of one enginewatch folder; nothing is created until ``create`` is called."""

    root: Path

    @classmethod
    def locate(cls, given: str | Path | None = None) -> Workspace:
        """Return the workspace that the user means: the option, ``$ENGINEWATCH_STORE``, or ``.enginewatch`` here."""
        chosen = given or os.environ.get("ENGINEWATCH_STORE") or DEFAULT_FOLDER
        return cls(Path(chosen).expanduser().absolute())

    @property
    def store(self) -> Path:
        """The DuckDB file of the one writer; never opened by anything but ``connect.writer``."""
        return self.root / "store.duckdb"

    @property
    def read_copy(self) -> Path:
        """Link to the newest published copy: what readers and other tools open."""
        return self.root / "store.read.duckdb"

    @property
    def read_versions(self) -> Path:
        """Folder of published copies."""
        return self.root / "read"

    @property
    def spool(self) -> Path:
        """Finished bundles that wait for the ingester."""
        return self.root / "spool"

    @property
    def done(self) -> Path:
        """Ingested bundles, by day: the truth from which the store can be rebuilt."""
        return self.root / "done"

    @property
    def quarantine(self) -> Path:
        """Bundles that could not be read."""
        return self.root / "quarantine"

    @property
    def engines(self) -> Path:
        """The engine cache."""
        return self.root / "engines"

    @property
    def cache(self) -> Path:
        """What is addressed by the hash of all that it depends on, and can be made again: may be deleted."""
        return self.root / "cache"

    @property
    def work(self) -> Path:
        """Scratch folders of running runs, with their logs."""
        return self.root / "work"

    def create(self) -> Workspace:
        """Make the folders.

        Raises:
            StorageError: The folder cannot be made or written.
        """
        try:
            for folder in (self.spool, self.done, self.quarantine, self.engines, self.work, self.read_versions):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the store folder {self.root}: {error.strerror}",
                remedy="give a writable folder with --store or $ENGINEWATCH_STORE",
            ) from error
        return self

    @contextmanager
    def lock(self, name: str, *, wait_s: float, busy: str) -> Iterator[None]:
        """Hold ``<root>/<name>.lock`` exclusively; the kernel frees it when the process dies.

        Raises:
            StoreLockedError: Another process held it for longer than ``wait_s``; ``busy`` says what it does.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / f"{name}.lock"
        with path.open("a+") as handle:
            deadline = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if time.monotonic() >= deadline:
                        handle.seek(0)
                        owner = handle.read().strip() or "unknown"
                        raise StoreLockedError(
                            f"{busy} ({path}, process {owner})",
                            remedy="wait for it, or stop that process",
                        ) from error
                    time.sleep(LOCK_POLL_S)
            handle.seek(0)
            handle.truncate()
            handle.write(str(os.getpid()))
            handle.flush()
            yield
