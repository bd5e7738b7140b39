"""The clients that need no installation: ours, the C reference and the asyncio reference."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.host import HERE
from benchmarks.load.truth import Seen, read_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement: what a client is to do, and where its files go."""

    url: str
    port: int
    streams: int
    requests: int
    isl: int
    osl: int
    folder: Path
    programs: Path
    tokenizer: Path | None = None

    def at(self, **changes: Any) -> Job:
        """Return it with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A load generator under test.

    Attributes:
        name: What ``--clients`` calls it.
        label: What the table calls it, with its version.
        command: Its command line for a job.
        read: Its report of a job's requests.
        env: Variables on top of this process's.
    """

    name: str
    label: str
    command: Callable[[Job], list[str]]
    read: Callable[[Job], list[Seen]]
    env: dict[str, str] = field(default_factory=dict)


def _ours_command(job: Job) -> list[str]:
    load = {
        "--url": job.url,
        "--model": "m",
        "--mode": "closed",
        "--concurrency": job.streams,
        "--requests": job.requests,
        "--isl": job.isl,
        "--osl": job.osl,
        "--warmup-s": 0,
        "--requests-to": job.folder / "requests.parquet",
    }
    options = [str(part) for pair in load.items() for part in pair]
    return [sys.executable, "-m", "enginewatch_harness.load", *options]


def _ours_seen(job: Job) -> list[Seen]:
    import pyarrow.parquet as pq

    found = []
    for row in pq.read_table(job.folder / "requests.parquet").to_pylist():
        if row["status"] != "ok":
            continue
        start_ns = row["sent_at_ns"] - (row["connect_ns"] or 0)
        found.append(
            Seen(
                # The mock server puts the serial of a request there: rows carry no other mark of their own.
                key=row["prompt_tokens"],
                ttft_ns=row["ttft_ns"],
                gaps_ns=np.asarray(row["itl_ns"], dtype=np.int64),
                start_ns=start_ns,
                end_ns=start_ns + row["e2e_ns"],
            )
        )
    return found


def _reference_arguments(job: Job) -> list[str]:
    return [*map(str, (job.port, job.streams, job.requests, job.isl, job.osl)), str(job.folder / "seen.bin")]


def _reference_seen(job: Job) -> list[Seen]:
    return read_seen((job.folder / "seen.bin").read_bytes())


OURS = Client(name="ours", label="enginewatch", command=_ours_command, read=_ours_seen)
C = Client(
    name="c",
    label="C, epoll (reference)",
    command=lambda job: [str(job.programs / "epoll_client"), *_reference_arguments(job)],
    read=_reference_seen,
)
ASYNCIO = Client(
    name="asyncio",
    label="Python, asyncio streams",
    command=lambda job: [sys.executable, str(HERE / "asyncio_client.py"), *_reference_arguments(job)],
    read=_reference_seen,
)
