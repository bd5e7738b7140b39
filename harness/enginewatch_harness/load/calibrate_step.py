"""One process of one calibration step: drive a reference server, compare with its truth, print what came out.

``python -m enginewatch_harness.load.calibrate_step URL SERVER_PID STREAMS DURATION_S``
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from dataclasses import asdict
from urllib.parse import urlsplit

import numpy as np
import psutil
from numpy.typing import NDArray

from enginewatch_db.model import Json, Phase
from enginewatch_harness.lean import leave_out_pandas
from enginewatch_harness.load import calibrate
from enginewatch_harness.load.calibrate import Errors, Step
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.target import Target
from enginewatch_harness.process import die_with_parent

WARMUP_S = 1.0
ISL = 8
TRUTH_TIMEOUT_S = 60.0
NS_PER_MS = 1e6


def measure(url: str, server_pid: int, streams: int, duration_s: float) -> Step:
    """Run one load and return what it brought, beside what the server knows."""
    server = psutil.Process(server_pid)
    marks: dict[Phase, tuple[float, float]] = {}

    def on_phase(phase: Phase) -> None:
        times = server.cpu_times()
        marks[phase] = (times.user + times.system, time.monotonic())

    script = {"ttft_ms": calibrate.TTFT_MS, "gap_ms": calibrate.GAP_MS}
    t0_ns = time.monotonic_ns()
    result = run_load(
        Target(url=url, model="m", body={"script": script}),
        LoadSpec(mode="closed", concurrency=streams, isl=ISL, osl=calibrate.OUTPUT_TOKENS, processes=1),
        warmup_s=WARMUP_S,
        duration_s=duration_s,
        seed=1,
        t0_ns=t0_ns,
        on_phase=on_phase,
    )
    return step_of(result, truths_of(url), streams=streams, server_cpu_pct=_server_cpu_pct(marks))


def _server_cpu_pct(marks: dict[Phase, tuple[float, float]]) -> float | None:
    if Phase.MEASURE not in marks or Phase.DRAIN not in marks:
        return None
    (cpu_a, at_a), (cpu_b, at_b) = marks[Phase.MEASURE], marks[Phase.DRAIN]
    return 100 * (cpu_b - cpu_a) / (at_b - at_a) if at_b > at_a else None


def truths_of(url: str) -> list[Json]:
    """Ask the reference server what it did."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TRUTH_TIMEOUT_S)
    try:
        connection.request("GET", "/truth")
        found: list[Json] = json.loads(connection.getresponse().read())["truths"]
        return found
    finally:
        connection.close()


def step_of(result: LoadResult, truths: list[Json], *, streams: int, server_cpu_pct: float | None) -> Step:
    """Return the step of one process. Pure."""
    values = {item.metric: item.value for item in result.metrics}
    begin_ns, end_ns = result.window_ns
    inside = [truth for truth in truths if begin_ns <= truth["arrived_ns"] < end_ns and len(truth["written_ns"]) > 1]
    written = [np.asarray(truth["written_ns"], dtype=np.float64) for truth in inside]
    due = [truth["arrived_ns"] + _schedule_ns(times.size) for truth, times in zip(inside, written, strict=True)]
    late = np.concatenate([a - b for a, b in zip(written, due, strict=True)]) if inside else np.empty(0)
    true_ttft = np.asarray([times[0] - truth["arrived_ns"] for truth, times in zip(inside, written, strict=True)])
    true_gaps = np.concatenate([np.diff(times) for times in written]) if inside else np.empty(0)
    failed = next(item for item in result.metrics if item.metric == "requests_failed_pct")
    return Step(
        processes=1,
        streams=streams,
        offered_tokens_s=calibrate.offered_tokens_s(streams),
        tokens_s=values.get("output_tokens_s") or 0.0,
        client_cpu_pct=values.get("client_cpu_pct"),
        server_cpu_pct=server_cpu_pct,
        loop_lateness_p99_ms=values.get("loop_lateness_p99_ms"),
        server_late_p99_ms=float(np.quantile(late, 0.99)) / NS_PER_MS if late.size else None,
        ttft_error=_errors(values, "ttft", true_ttft),
        itl_error=_errors(values, "itl", true_gaps),
        failed=round((failed.value or 0.0) / 100 * (failed.n or 0)),
    )


def _schedule_ns(tokens: int) -> NDArray[np.float64]:
    """Return when tokens are due after the request came, by the script."""
    due: NDArray[np.float64] = (calibrate.TTFT_MS + np.arange(tokens, dtype=np.float64) * calibrate.GAP_MS) * NS_PER_MS
    return due


def _errors(values: dict[str, float | None], stem: str, truth_ns: NDArray[np.float64]) -> Errors | None:
    p50, p99 = values.get(f"{stem}_p50_ms"), values.get(f"{stem}_p99_ms")
    if p50 is None or p99 is None or not truth_ns.size:
        return None
    true50, true99 = np.quantile(truth_ns, [0.5, 0.99]) / NS_PER_MS
    return Errors(p50_ms=p50 - float(true50), p99_ms=p99 - float(true99))


def main(argv: list[str]) -> int:
    """Run one step and print it as JSON."""
    die_with_parent()
    url, pid, streams, duration_s = argv
    sys.stdout.write(json.dumps(asdict(measure(url, int(pid), int(streams), float(duration_s)))) + "\n")
    return 0


if __name__ == "__main__":
    leave_out_pandas()
    sys.exit(main(sys.argv[1:]))
