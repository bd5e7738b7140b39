"""The scraper beside a load: find where a server's metrics are, start the process, bring its answers back."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from enginewatch_harness import process
from enginewatch_harness.targets import prometheus, trtllm_stats
from enginewatch_harness.targets.probe import Ask, Reply
from enginewatch_harness.targets.samples import Seen, understand
from enginewatch_harness.targets.scrape import read

MODULE = "enginewatch_harness.targets.scrape"
POLL_S = 0.01
FIRST_S = 15.0
STOP_GRACE_S = 12.0
"""Longer than the scraper's own limit for one answer: the last one covers the end of the load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a server's metrics are; ``path`` is ``None`` where it has none, for the reason ``absent``."""

    url: str
    path: str | None = None
    absent: str | None = None


def find(ask: Ask, url: str, paths: Sequence[str]) -> Found:
    """Return the first of ``paths`` that holds metrics which are known here."""
    whys = []
    for path in paths:
        why = _why_not(ask(path), path)
        if why is None:
            return Found(url=url, path=path)
        whys.append(why)
    return Found(url=url, absent="; ".join(whys) or "no path of metrics is known for this server")


def _why_not(reply: Reply | None, path: str) -> str | None:
    if reply is None:
        return f"{path} did not answer"
    if reply.status != 200:
        return f"the server has no {path} ({reply.status})"
    text = reply.body.decode("utf-8", errors="replace")
    if trtllm_stats.parse(text) is not None:
        return None
    return None if prometheus.source_of(prometheus.parse(text)) else f"{path} holds no metric that is known here"


def named(option: str, url: str) -> Found:
    """Return what the plan names: a path of the server, or a URL of its own."""
    if "://" not in option:
        return Found(url=url, path=option if option.startswith("/") else f"/{option}")
    parts = urlsplit(option)
    return Found(url=f"{parts.scheme}://{parts.netloc}", path=parts.path or "/metrics")


class Scraper:
    """A scraper in a context; ``seen`` tells what it brought.

    Args:
        found: Where the metrics are.
        interval_s: Seconds between two questions.
        log_dir: Folder for its answers and logs.
        secrets: Command-line arguments that name the environment variables of headers, and how TLS is spoken.
    """

    def __init__(self, found: Found, *, interval_s: float, log_dir: Path, secrets: Sequence[str] = ()) -> None:
        self._found = found
        self._out = log_dir / "server_metrics.bin"
        self._logs = log_dir
        self._arguments = ["--interval-s", str(interval_s), *secrets]
        self._process: process.Child | None = None

    def __enter__(self) -> Self:
        if self._found.path is not None:
            where = ["--url", self._found.url, "--path", self._found.path, "--out", str(self._out)]
            self._process = process.start(
                [sys.executable, "-m", MODULE, *where, *self._arguments],
                stdout=self._logs / "scraper.stdout.log",
                stderr=self._logs / "scraper.stderr.log",
            )
            self._wait_for_first()
        return self

    def _wait_for_first(self) -> None:
        """Wait for the answer that comes before the load, and for the start of the process, which takes CPU."""
        deadline = time.monotonic() + FIRST_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if self._out.is_file() and self._out.stat().st_size:
                return
            time.sleep(POLL_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Read once more and end."""
        if self._process is not None:
            process.stop_group(self._process, STOP_GRACE_S)
            self._process = None

    def seen(self) -> Seen:
        """Return what the answers hold; call it after the end."""
        if self._found.path is None:
            return Seen(absent=self._found.absent)
        seen = understand(read(self._out), path=self._found.path)
        died = process.tail(self._logs / "scraper.stderr.log", 300)
        return seen if seen.rows or not died else Seen(absent=f"the scraper ended early: {died}")
