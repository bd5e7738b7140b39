"""What a host's load generator can drive: steps of load against a server of known timing, and the verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enginewatch_harness.load.verdicts import CPU_LIMIT_PCT, LOOP_LATENESS_LIMIT_MS

TTFT_MS = 50.0
GAP_MS = 10.0
OUTPUT_TOKENS = 64
"""The reference server's script: 94 tokens a second and stream, 63 gaps for each first token."""

ACHIEVED_SHARE = 0.97
"""A step is driven when this share of the offered tokens came."""

SERVER_CPU_LIMIT_PCT = 90.0
FIRST_STREAMS = 32
LAST_STREAMS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Measured quantile minus true quantile, in ms."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step brought.

    Attributes:
        processes: Client processes, each with a server of its own.
        streams: Streams of each process.
        offered_tokens_s: What each process's server has to give.
        tokens_s: What each process took, the slowest of them.
        client_cpu_pct: Of one core, the busiest process; ``None`` where it was not measured.
        server_cpu_pct: The same of its server.
        loop_lateness_p99_ms: The worst process's.
        server_late_p99_ms: How much later than its script the server wrote, p99 of the gaps; the worst server's.
        ttft_error: Of the worst process.
        itl_error: Of the worst process.
        failed: Requests that failed.
    """

    processes: int
    streams: int
    offered_tokens_s: float
    tokens_s: float
    client_cpu_pct: float | None
    server_cpu_pct: float | None
    loop_lateness_p99_ms: float | None
    server_late_p99_ms: float | None
    ttft_error: Errors | None
    itl_error: Errors | None
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a number of processes was shown to drive.

    Attributes:
        processes: How many ran at once.
        streams: Most streams of each that it kept up with; 0: none.
        tokens_s: Tokens per second of each at that step.
        by: What ended the search: ``client``, ``server``, or ``range`` where nothing did.
        why: In words.
    """

    processes: int
    streams: int
    tokens_s: float
    by: str
    why: str


def offered_tokens_s(streams: int) -> float:
    """Return the tokens per second that so many streams are given: each starts anew as soon as it ends."""
    return streams * OUTPUT_TOKENS / ((TTFT_MS + (OUTPUT_TOKENS - 1) * GAP_MS) / 1e3)


def server_fault(step: Step) -> str | None:
    """Return why a step says nothing about the client: its server did not keep to its script."""
    if step.server_cpu_pct is not None and step.server_cpu_pct > SERVER_CPU_LIMIT_PCT:
        return f"the reference server used {step.server_cpu_pct:.0f} % of its core"
    if step.server_late_p99_ms is not None and step.server_late_p99_ms > LOOP_LATENESS_LIMIT_MS:
        return f"the reference server wrote {step.server_late_p99_ms:.1f} ms late at p99"
    return None


def client_fault(step: Step) -> str | None:
    """Return how the client broke a limit of ``load.verdicts``, or fell behind."""
    if step.failed:
        return f"{step.failed} requests failed"
    if step.client_cpu_pct is not None and step.client_cpu_pct > CPU_LIMIT_PCT:
        return f"a client process used {step.client_cpu_pct:.0f} % of its core"
    if step.loop_lateness_p99_ms is not None and step.loop_lateness_p99_ms > LOOP_LATENESS_LIMIT_MS:
        return f"a client's event loop was {step.loop_lateness_p99_ms:.1f} ms late at p99"
    if step.tokens_s < ACHIEVED_SHARE * step.offered_tokens_s:
        return f"{step.tokens_s:,.0f} of {step.offered_tokens_s:,.0f} offered tokens/s came"
    return None


def fault(step: Step) -> tuple[str, str] | None:
    """Return who did not keep up (``client`` or ``server``) and how; a late server excuses the client."""
    late = server_fault(step)
    if late is not None:
        return "server", late
    own = client_fault(step)
    return None if own is None else ("client", own)


def next_streams(steps: Sequence[Step]) -> int | None:
    """Return the streams of the next step, or ``None`` when the limit is found: doubling, then one step between."""
    if not steps:
        return FIRST_STREAMS
    good = max((step.streams for step in steps if fault(step) is None), default=0)
    bad = min((step.streams for step in steps if fault(step) is not None), default=None)
    if bad is None:
        return good * 2 if good < LAST_STREAMS else None
    if good == 0:
        return bad // 4 if bad >= 8 else None
    middle = good * 3 // 2
    return middle if bad >= 2 * good else None


def limit_of(steps: Sequence[Step]) -> Limit:
    """Return what the steps of one number of processes show."""
    good = [step for step in steps if fault(step) is None]
    best = max(good, key=lambda step: step.streams, default=None)
    bad = [step for step in steps if fault(step) is not None and (best is None or step.streams > best.streams)]
    first = min(bad, key=lambda step: step.streams, default=None)
    found = None if first is None else fault(first)
    by, why = found or ("range", f"{LAST_STREAMS} streams are the most that is tried")
    if first is not None:
        why = f"at {first.streams} streams {why}"
    return Limit(
        processes=steps[0].processes,
        streams=0 if best is None else best.streams,
        tokens_s=0.0 if best is None else best.tokens_s,
        by=by,
        why=why,
    )


def sentence(limit: Limit) -> str:
    """Return the verdict in words."""
    together = "" if limit.processes == 1 else f" with {limit.processes} at once"
    if limit.streams == 0:
        return f"No step was driven{together}: {limit.why}. Free the machine and calibrate again."
    least = "at least " if limit.by != "client" else ""
    return (
        f"This host drives {least}{limit.streams} streams / {limit.tokens_s:,.0f} tokens/s per process{together}; "
        f"{limit.why}."
    )
