"""The entry to the load generator: a target and a spec in; requests, metrics and reasons out."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable

from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json, Phase
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.driver import Driver
from enginewatch_harness.load.part import run_part
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import LoadSpec, processes_for
from enginewatch_harness.load.synthetic import Prepared, SyntheticWorkload, prepare_workload
from enginewatch_harness.load.target import RequestWriter, Target
from enginewatch_harness.load.tickets import LocalTickets

CALIBRATION_TIMEOUT_S = 5.0


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
        del driver  # and with it every request's objects, before the result is computed
    else:
        # Several processes need more to start; one process must not wait for it.
        from enginewatch_harness.load.crew import run_crew

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
    # NumPy and Arrow take longer to import than the client takes to start, and the client needs neither.
    from enginewatch_harness.load.summing import sum_up

    return sum_up(parts, spec, workload, prepared.length, t0_ns)


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
