"""The entry to the load generator: a target and a spec in; requests, metrics and reasons out."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import uvloop

from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.arrivals import OPEN_MODES, check_spec, schedule
from enginewatch_harness.load.driver import NEVER_NS, Driver
from enginewatch_harness.load.metrics import ClientStats, Totals, load_metrics, totals
from enginewatch_harness.load.prompts import SEQUENCE_WORDS, PromptLength, PromptSource, calibrate
from enginewatch_harness.load.record import to_table
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.verdicts import client_bound, failures

if TYPE_CHECKING:
    import pyarrow as pa

CALIBRATION_TIMEOUT_S = 5.0
CPU_MIN_WINDOW_NS = 100_000_000
"""A share of CPU over less than this says more about the scheduler's accounting than about the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a load brought.

    Attributes:
        requests: All requests, schema ``llm_requests``; times relative to ``t0_ns``.
        window_ns: Start and end of the measuring phase on the monotonic clock.
        metrics: Every LLM metric; absent ones with their reason.
        reasons: Validity reasons.
        counts: Totals: ``requests``, ``completed`` and ``output_tokens`` of the window, ``prompt_words``, ...
        notes: What a reader of the numbers needs to know.
    """

    requests: pa.Table
    window_ns: tuple[int, int]
    metrics: tuple[MetricValue, ...]
    reasons: tuple[Reason, ...]
    counts: dict[str, float]
    notes: tuple[str, ...] = ()


def run_load(
    target: Target,
    spec: LoadSpec,
    *,
    warmup_s: float,
    duration_s: float,
    seed: int,
    t0_ns: int,
    on_phase: Callable[[Phase], None] = lambda phase: None,
    on_progress: Callable[[int, float | None], None] = lambda count, median_ms: None,
) -> LoadResult:
    """Put a load on a server and measure it. Blocks; runs an event loop of its own on the calling thread.

    A server that refuses, breaks off, answers with errors or dies makes failed requests and reasons, never an
    exception.

    Args:
        target: The served model.
        spec: How requests arrive.
        warmup_s: Seconds of load before the measuring phase.
        duration_s: Seconds of the measuring phase; not used where ``spec.requests`` ends it.
        seed: Seed of prompts and arrivals.
        t0_ns: Origin of the run on the monotonic clock.
        on_phase: Called when a phase begins (warm-up, measure, drain).
        on_progress: Called about four times a second with the completed requests of the measuring phase and
            the running median of their E2E in ms. Both are called on the event loop, so they must be quick.

    Raises:
        UsageError: A target or spec that cannot be obeyed.
    """
    check_spec(spec)
    prompt_seed, arrival_seed = np.random.SeedSequence(seed).spawn(2)
    longest = max(SEQUENCE_WORDS, spec.isl)
    source = PromptSource(prompt_seed, longest_words=longest)
    writer = RequestWriter(target, max_tokens=spec.osl)
    length = calibrate_with_server(target, source, isl=spec.isl, longest_words=longest)
    driver = Driver(
        target,
        spec,
        warmup_s=warmup_s,
        duration_s=duration_s,
        arrivals=schedule(spec, arrival_seed) if spec.mode in OPEN_MODES else None,
        request=lambda number: writer.request(source.prompt(number, length.words)),
        on_phase=on_phase,
        on_progress=on_progress,
    )
    _run_quietly(driver)
    return _result(driver, spec, length, t0_ns)


def _run_quietly(driver: Driver) -> None:
    """Run with the cyclic garbage collector off: its pauses would become token gaps."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(driver.run())
    finally:
        if collecting:
            gc.enable()


def calibrate_with_server(target: Target, source: PromptSource, *, isl: int, longest_words: int) -> PromptLength:
    """Find the prompt length with the server's ``/tokenize``, as llama.cpp and vLLM have it.

    Returns:
        An estimate (one token a word), where the server has no such endpoint.
    """
    host, port = target.address()
    connection = http.client.HTTPConnection(host, port, timeout=CALIBRATION_TIMEOUT_S)

    def count_tokens(text: str) -> int:
        # llama.cpp reads "content" and "add_special"; vLLM reads "prompt" and "model". Each ignores the others.
        body: Json = {"content": text, "add_special": True, "prompt": text, "model": target.model}
        connection.request(
            "POST", "/tokenize", json.dumps(body), {"Content-Type": "application/json", **target.headers}
        )
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return len(found["tokens"])

    try:
        return calibrate(isl, source, count_tokens, longest_words=longest_words)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return PromptLength(words=isl)
    finally:
        connection.close()


def _result(driver: Driver, spec: LoadSpec, length: PromptLength, t0_ns: int) -> LoadResult:
    begin_ns = driver.begin_ns
    end_ns = begin_ns if driver.end_ns == NEVER_NS else max(begin_ns, driver.end_ns)
    requests = to_table(driver.exchanges, t0_ns)
    counted = totals(requests, (begin_ns - t0_ns, end_ns - t0_ns))
    client = _client_stats(driver, begin_ns, end_ns)
    reasons = [failures(requests), client_bound(requests, client, rate_rps=spec.rate_rps)]
    if driver.server_died is not None:
        reasons.append(Reason(code="server_died", detail=driver.server_died))
    return LoadResult(
        requests=requests,
        window_ns=(begin_ns, end_ns),
        metrics=load_metrics(requests, counted, client),
        reasons=tuple(reason for reason in reasons if reason is not None),
        counts=_counts(driver, requests, counted, length, client),
        notes=_notes(driver, spec, length),
    )


def _client_stats(driver: Driver, begin_ns: int, end_ns: int) -> ClientStats:
    due = np.asarray(driver.watch.due_at_ns, dtype=np.int64)
    late = np.asarray(driver.watch.lateness_ns, dtype=np.int64)
    inside = late[(due >= begin_ns) & (due < end_ns)]
    before, after = driver.usage.get(Phase.MEASURE), driver.usage.get(Phase.DRAIN)
    if before is None or after is None or after.at_ns - before.at_ns < CPU_MIN_WINDOW_NS:
        return ClientStats(cpu_pct=None, waited_pct=None, loop_lateness_ns=inside)
    wall_ns = after.at_ns - before.at_ns
    waited = None if after.waited_ns is None or before.waited_ns is None else after.waited_ns - before.waited_ns
    return ClientStats(
        cpu_pct=100 * (after.cpu_ns - before.cpu_ns) / wall_ns,
        waited_pct=None if waited is None else 100 * waited / wall_ns,
        loop_lateness_ns=inside,
    )


def _counts(
    driver: Driver, requests: pa.Table, counted: Totals, length: PromptLength, client: ClientStats
) -> dict[str, float]:
    import pyarrow.compute as pc

    counts: dict[str, float] = {
        "requests": requests.num_rows,
        "completed": counted.completed,
        "output_tokens": counted.output_tokens,
        "window_s": counted.window_s,
        "prompt_words": length.words,
        "resent": driver.resent,
    }
    if client.waited_pct is not None:
        counts["client_waited_pct"] = client.waited_pct
    if counted.input_tokens is not None:
        counts["input_tokens"] = counted.input_tokens
    told = requests.filter(pc.is_valid(requests["output_tokens"]))
    if events := pc.sum(told["content_events"]).as_py():
        counts["tokens_per_event"] = pc.sum(told["output_tokens"]).as_py() / events
    return counts


def _notes(driver: Driver, spec: LoadSpec, length: PromptLength) -> tuple[str, ...]:
    notes = []
    if length.tokens_mean is None:
        notes.append(f"prompt length is an estimate: {length.words} words for {spec.isl} tokens (no /tokenize)")
    elif abs(length.tokens_mean - spec.isl) > 1:
        notes.append(f"prompts have {length.tokens_mean:.1f} tokens on average, {spec.isl} were asked for")
    if driver.gave_up is not None:
        notes.append(f"the load was broken off: {driver.gave_up}")
    return tuple(notes)
