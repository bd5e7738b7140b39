"""The entry to the load generator: a target and a spec in; requests, metrics and reasons out."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enginewatch_db.errors import UsageError
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import Json, Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.crew import processes_for, run_crew
from enginewatch_harness.load.driver import Driver
from enginewatch_harness.load.judgement import judge_load
from enginewatch_harness.load.metrics import ClientStats
from enginewatch_harness.load.part import Account, Part, run_part
from enginewatch_harness.load.prompts import PromptLength
from enginewatch_harness.load.record import to_table
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import Prepared, SyntheticWorkload, prepare_workload
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.tickets import LocalTickets
from enginewatch_harness.load.tokenizer import open_tokenizer
from enginewatch_harness.load.workload import Workload

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
    """Put a load on a server and measure it. Blocks; one process runs its event loop on the calling thread.

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
        BackendError: A process of the load generator itself failed.
    """
    check_spec(spec)
    check_target(target, spec)
    prepared = prepare(target, spec, seed)
    workload = SyntheticWorkload(prepared)
    processes = processes_for(spec, len(os.sched_getaffinity(0)))
    if processes == 1:
        driver = Driver(
            target,
            spec,
            workload,
            LocalTickets(spec.requests),
            warmup_s=warmup_s,
            duration_s=duration_s,
            on_phase=on_phase,
            on_progress=on_progress,
        )
        parts = [run_part(driver, 0)]
    else:
        parts = run_crew(
            target,
            spec,
            processes=processes,
            prepared=prepared,
            warmup_s=warmup_s,
            duration_s=duration_s,
            on_phase=on_phase,
            on_progress=on_progress,
        )
    return _result(parts, spec, workload, prepared.length, t0_ns)


def check_target(target: Target, spec: LoadSpec) -> None:
    """Refuse a load that the endpoint cannot carry.

    Raises:
        UsageError: Turns on an endpoint without history, or a header or URL that cannot be spelt.
    """
    if spec.turns > 1 and not target.wire().history:
        raise UsageError(
            f"{spec.turns} turns cannot be sent to endpoint {target.endpoint!r}, which has no history",
            remedy="use endpoint chat, or one turn",
        )
    RequestWriter(target)


def prepare(target: Target, spec: LoadSpec, seed: int) -> Prepared:
    """Make up the workload, with prompt lengths by the server's ``/tokenize``, as llama.cpp and vLLM have it.

    Where the server has none, and the spec names no tokenizer, lengths are an estimate that says so.

    Raises:
        UsageError: A spec, dataset or tokenizer that cannot be obeyed.
    """
    if spec.tokenizer is not None:
        return prepare_workload(spec, seed)
    host, port = target.address()
    tls, timeout_s = target.tls(), min(CALIBRATION_TIMEOUT_S, target.timeout_s)
    connection = (
        http.client.HTTPConnection(host, port, timeout=timeout_s)
        if tls is None
        else http.client.HTTPSConnection(host, port, timeout=timeout_s, context=tls)
    )

    def count_tokens(text: str) -> int:
        # llama.cpp reads "content" and "add_special"; vLLM reads "prompt" and "model". Each ignores the others.
        body: Json = {"content": text, "add_special": True, "prompt": text, "model": target.model}
        headers = {"Content-Type": "application/json", **target.headers}
        connection.request("POST", "/tokenize", json.dumps(body), headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return len(found["tokens"])

    try:
        return prepare_workload(spec, seed, count_tokens=count_tokens)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return prepare_workload(spec, seed)
    finally:
        connection.close()


def _result(
    parts: Sequence[Part], spec: LoadSpec, workload: Workload, length: PromptLength | None, t0_ns: int
) -> LoadResult:
    accounts = [account for account, _ in parts]
    begin_ns = min(account.begin_ns for account in accounts)
    end_ns = max([begin_ns, *(account.end_ns for account in accounts if account.end_ns is not None)])
    requests = to_table([columns for _, columns in parts], t0_ns, count_tokens=_answer_counter(spec))
    judged = judge_load(
        requests,
        spec,
        (begin_ns - t0_ns, end_ns - t0_ns),
        tuple(_stats(account, begin_ns, end_ns) for account in accounts),
        cores=len(os.sched_getaffinity(0)),
    )
    died = [account.server_died for account in accounts if account.server_died is not None]
    gave_up = [account.gave_up for account in accounts if account.gave_up is not None]
    notes = [*workload.notes, *judged.notes]
    if workload.estimated is not None and not any("is an estimate" in note for note in notes):
        notes.append(f"prompt length is an estimate: {workload.estimated}")
    if gave_up:
        notes.append(f"the load was broken off: {gave_up[0]}")
    window_begin_ns, window_end_ns = judged.window_ns
    return LoadResult(
        requests=requests,
        window_ns=(window_begin_ns + t0_ns, window_end_ns + t0_ns),
        metrics=judged.metrics,
        reasons=(*judged.reasons, *(Reason(code="server_died", detail=detail) for detail in died[:1])),
        counts={
            **judged.counts,
            "resent": sum(account.resent for account in accounts),
            **({} if length is None else {"prompt_words": length.words}),
        },
        notes=tuple(notes),
    )


def _answer_counter(spec: LoadSpec) -> Callable[[str], int] | None:
    if spec.tokenizer is None:
        return None
    return open_tokenizer(spec.tokenizer).count_answer


def _stats(account: Account, begin_ns: int, end_ns: int) -> ClientStats:
    due = np.asarray(account.tick_due_ns, dtype=np.int64)
    late = np.asarray(account.tick_late_ns, dtype=np.int64)
    inside = late[(due >= begin_ns) & (due < end_ns)]
    before, after = account.usage.get(Phase.MEASURE), account.usage.get(Phase.DRAIN)
    if before is None or after is None or after.at_ns - before.at_ns < CPU_MIN_WINDOW_NS:
        return ClientStats(process=account.process, cpu_pct=None, waited_pct=None, loop_lateness_ns=inside)
    wall_ns = after.at_ns - before.at_ns
    waited = None if after.waited_ns is None or before.waited_ns is None else after.waited_ns - before.waited_ns
    return ClientStats(
        process=account.process,
        cpu_pct=100 * (after.cpu_ns - before.cpu_ns) / wall_ns,
        waited_pct=None if waited is None else 100 * waited / wall_ns,
        loop_lateness_ns=inside,
    )
