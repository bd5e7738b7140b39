"""Reads a server's metrics once a second into a file, in a process of its own: no load shares its interpreter.

    python -m enginewatch_harness.targets.scrape --url http://127.0.0.1:8000 --path /metrics --out scrapes.bin

Each answer is kept as it came, behind a line of JSON with its monotonic times. It is parsed after the load. One more is
read at SIGTERM, so that the counters cover the load to its end. Ends when its standard input does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from enginewatch_harness.process import die_with_parent
from enginewatch_harness.targets import probe

TIMEOUT_S = 10.0
"""A busy server answers its metrics late, which is no reason to ask it twice at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """One answer.

    Attributes:
        t_ns: Half-way between question and answer, monotonic.
        took_ns: From question to answer.
        status: HTTP status; 0 where there was no answer.
        body: The answer, or why there was none.
    """

    t_ns: int
    took_ns: int
    status: int
    body: bytes


def write(out: BinaryIO, scrape: Scrape) -> None:
    """Append one answer."""
    head = {"t_ns": scrape.t_ns, "took_ns": scrape.took_ns, "status": scrape.status, "bytes": len(scrape.body)}
    out.write(json.dumps(head).encode() + b"\n" + scrape.body + b"\n")
    out.flush()


def read(path: Path) -> Iterator[Scrape]:
    """Return the answers in a file, without one that was cut off in the middle."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while head := file.readline():
            try:
                facts = json.loads(head)
            except ValueError:
                return
            body = file.read(facts["bytes"] + 1)
            if len(body) != facts["bytes"] + 1:
                return
            yield Scrape(t_ns=facts["t_ns"], took_ns=facts["took_ns"], status=facts["status"], body=body[:-1])


def once(url: str, path: str, headers: dict[str, str], tls: probe.Tls) -> Scrape:
    """Ask once."""
    began_ns = time.monotonic_ns()
    try:
        reply = probe.get(url, path, headers=headers, tls=tls, timeout_s=TIMEOUT_S)
        status, body = reply.status, reply.body
    except (OSError, http.client.HTTPException) as error:
        status, body = 0, f"{type(error).__name__}: {error}".encode()
    ended_ns = time.monotonic_ns()
    return Scrape(t_ns=(began_ns + ended_ns) // 2, took_ns=ended_ns - began_ns, status=status, body=body)


def arguments(argv: list[str]) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="scrape", description="Keep what a server says about itself.")
    parser.add_argument("--url", required=True, help="root of the server")
    parser.add_argument("--path", required=True, help="path of the metrics")
    parser.add_argument("--out", required=True, type=Path, help="file to write")
    parser.add_argument("--interval-s", type=float, default=1.0, help="seconds from one question to the next")
    parser.add_argument("--bearer-env", help="environment variable with the key")
    parser.add_argument("--header-env", action="append", default=[], help="HEADER=VARIABLE, may be repeated")
    parser.add_argument("--ca-file", type=Path, help="certificates to trust")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    return parser.parse_args(argv)


def _headers(given: argparse.Namespace) -> dict[str, str]:
    pairs = [item.partition("=") for item in given.header_env]
    found = {header: os.environ.get(variable, "") for header, _, variable in pairs}
    if given.bearer_env:
        found["Authorization"] = f"Bearer {os.environ.get(given.bearer_env, '')}"
    return found


def main(argv: list[str] | None = None) -> int:
    """Read until told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    given = arguments(sys.argv[1:] if argv is None else argv)
    headers = _headers(given)
    tls = probe.tls_of(given.url, ca_file=given.ca_file, verify=not given.insecure)
    due = time.monotonic()
    with given.out.open("wb") as out:
        write(out, once(given.url, given.path, headers, tls))
        while not stop.is_set():
            # Ticks are absolute, and those that a late answer covered are left out.
            due += given.interval_s * max(1, int((time.monotonic() - due) / given.interval_s) + 1)
            stop.wait(max(0.0, due - time.monotonic()))
            write(out, once(given.url, given.path, headers, tls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
