"""One measurement: a fresh server and a client, each on its own core, and what comes of it."""

from __future__ import annotations

import os
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.clients import Client, Job
from benchmarks.load.host import SPIN, CannotRunError, Cores, Used, run_client, serving
from benchmarks.load.truth import Seen, Truth, errors
from enginewatch_harness import process

TTFT_NS, GAP_NS = 50_000_000, 10_000_000
"""The defaults of the mock server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run of a client brought; ``None`` for what it does not report.

    Attributes:
        tokens_per_s: Tokens of its requests from their first start to their last token, on the client's clock
            where its report has one.
        offered_pct: That over what its streams would get from the server without any delay of the client's.
        cpu_s_per_m: CPU seconds per million tokens, all processes, from the first request on: what a longer run
            costs. Includes what it does with its records at the end.
        cpu_start_s: CPU seconds before the first request.
        core_used: Mean share of a core between the first request and the last token.
        ttft_p50_ms: Measured minus true quantile; the same for the others.
        ttft_paired_p50_ms: Median of the errors of the single requests.
        peak_mb: Peak of resident memory.
        start_s: From its start to its first request at the server.
        requests: Requests that it reports as completed.
        server_late_p99_ms: How late the mock server's own writes were, by its schedule.
    """

    tokens_per_s: float
    offered_pct: float
    cpu_s_per_m: float
    cpu_start_s: float
    core_used: float
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    ttft_paired_p50_ms: float | None
    ttft_paired_p99_ms: float | None
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    peak_mb: float
    start_s: float
    requests: int
    server_late_p50_ms: float
    server_late_p99_ms: float


def offered_tokens_per_s(streams: int, osl: int) -> float:
    """Return what closed-loop streams get from the server if a client adds no delay at all."""
    return streams * osl / ((TTFT_NS + (osl - 1) * GAP_NS) / 1e9)


def measure(client: Client, job: Job, cores: Cores, *, timeout_s: float) -> Figures:
    """Run a client once against a server of its own.

    Args:
        client: The client.
        job: What it is to do; ``url`` and ``port`` are filled in here.
        cores: Where server and client run.
        timeout_s: Limit of the client's run.

    Raises:
        CannotRunError: The client failed, or reported fewer requests than it was given.
    """
    with serving(job.programs, job.folder, core=cores.server, options=SPIN) as server:
        job = job.at(url=server.url, port=server.port)
        used = run_client(
            job.programs,
            client.command(job),
            job.folder,
            core=cores.client,
            env={**os.environ, **client.env},
            timeout_s=timeout_s,
        )
    if used.status:
        raise CannotRunError(f"exit status {used.status}: {last_words(job.folder)}")
    seen = client.read(job)
    if len(seen) != job.requests:
        raise CannotRunError(
            f"it reports {len(seen)} of {job.requests} requests as completed: {last_words(job.folder)}"
        )
    return figures(seen, server.truths, used, server.lateness, job)


def last_words(folder: Path) -> str:
    """Return the last line that the client wrote."""
    said = process.tail(folder / "client.err") or process.tail(folder / "client.out") or "(it said nothing)"
    return said.splitlines()[-1][-300:]


def of_the_load(seen: list[Seen], truths: list[Truth]) -> list[Truth]:
    """Leave a client's own trial requests out: by its request ids, or else all but the last."""
    keys = {item.key for item in seen}
    whole = [truth for truth in truths if truth.written_ns.size == truth.wanted]
    named = [truth for truth in whole if truth.serial in keys or truth.request_id in keys]
    return named if len(named) == len(seen) else whole[-len(seen) :]


def figures(seen: list[Seen], truths: list[Truth], used: Used, lateness: dict[str, float], job: Job) -> Figures:
    """Work out the figures of one run. Pure."""
    chosen = of_the_load(seen, truths)
    tokens = sum(truth.written_ns.size for truth in chosen)
    first_ns = min(truth.arrived_ns for truth in chosen)
    last_ns = max(int(truth.written_ns[-1]) for truth in chosen)
    starts = [item.start_ns for item in seen if item.start_ns is not None]
    ends = [item.end_ns for item in seen if item.end_ns is not None]
    span_s = (max(ends) - min(starts) if starts and ends else last_ns - first_ns) / 1e9
    error = errors(seen, chosen)
    ttft, itl, paired = error.ttft_ms or {}, error.itl_ms or {}, error.paired_ttft_ms or {}
    began_cpu_s = used.cpu_at(first_ns)
    return Figures(
        tokens_per_s=tokens / span_s,
        offered_pct=100 * tokens / span_s / offered_tokens_per_s(job.streams, job.osl),
        cpu_s_per_m=(used.cpu_s - began_cpu_s) / tokens * 1e6,
        cpu_start_s=began_cpu_s,
        core_used=(used.cpu_at(last_ns) - began_cpu_s) / ((last_ns - first_ns) / 1e9),
        ttft_p50_ms=ttft.get(0.5),
        ttft_p99_ms=ttft.get(0.99),
        ttft_paired_p50_ms=paired.get(0.5),
        ttft_paired_p99_ms=paired.get(0.99),
        itl_p50_ms=itl.get(0.5),
        itl_p99_ms=itl.get(0.99),
        peak_mb=used.peak_mb,
        start_s=(truths[0].arrived_ns - used.began_ns) / 1e9,
        requests=len(seen),
        server_late_p50_ms=lateness["late_p50_us"] / 1e3,
        server_late_p99_ms=lateness["late_p99_us"] / 1e3,
    )


def median(runs: list[Figures]) -> Figures:
    """Return the median of each figure over repeated runs."""
    rows = [asdict(run) for run in runs]
    found: dict[str, Any] = {}
    for name in rows[0]:
        known = [row[name] for row in rows if row[name] is not None]
        found[name] = statistics.median(known) if known else None
    return Figures(**found)
